"""TLS of a gRPC server. Credentials follow their files, so a rotated certificate needs no restart."""

from __future__ import annotations

import logging
import threading
from typing import Any

import grpc

from headrace_runtime.tls_files import TlsFiles

logger = logging.getLogger(__name__)

_State = tuple[tuple[int, int, int], ...]


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that reload changed files at the next handshake.

    Invalid contents, such as a certificate without its new key, are logged and ignored. The previous contents then stay
    in force. Raises ValueError when the first contents are invalid.
    """
    follower = _Follower(files)
    fetch: Any = follower.changed  # None means no change, which grpc's types do not allow
    return grpc.dynamic_ssl_server_credentials(
        follower.first, fetch, require_client_authentication=files.client_ca_file is not None
    )


class _Follower:
    """Reads the files, and reads them again after a change. gRPC's threads call `changed` at each handshake."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._state = self._look()
        self.first = self._read()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the contents of the files when they are new and valid, else None."""
        with self._lock:
            try:
                state = self._look()
                if state == self._state:
                    return None
                fresh = self._read()
            except (OSError, ValueError) as error:
                logger.warning("the new TLS files are not taken, the ones before stay in force: %s", error)
                return None
            self._state = state
            logger.info("TLS files were read again: %s", self._files.cert_file)
            return fresh

    def _look(self) -> _State:
        """Return the inode, modification time and size of each file. A write or a replacement changes them."""
        paths = (self._files.cert_file, self._files.key_file, self._files.client_ca_file)
        seen = [path.stat() for path in paths if path is not None]
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in seen)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        self._files.check()
        authorities = self._files.client_ca_file
        return grpc.ssl_server_certificate_configuration(
            [(self._files.key_file.read_bytes(), self._files.cert_file.read_bytes())],
            None if authorities is None else authorities.read_bytes(),
        )
