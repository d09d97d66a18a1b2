"""Where a gRPC server listens, its TLS files, and what may be wrong with those.

There is no gRPC in here: settings check the files at the start.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate chain, its private key, and the CAs that callers' certificates must come from.

    Without `client_ca_file` callers need no certificate of their own.
    """

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None

    def check(self) -> None:
        """Raise ValueError when the files cannot protect a port."""
        check_certificates(self.cert_file)
        check_key(self.cert_file, self.key_file)
        if self.client_ca_file is not None:
            check_certificates(self.client_ca_file)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the callers of a gRPC server may hold: one alone, and all together.

    Each of `connections` may have so many calls at a time, and `unfinished` messages of all callers may be on their
    way: when there are more, the oldest one's call is refused. A stream of requests may have a message on its way as
    long as it is open, and is counted apart: when there are more than `streams`, a further one is refused, or takes the
    place of one that was silent for long. So messages hold no more than `unfinished` and `streams` together times the
    largest message.
    """

    connections: int = 1000
    calls_per_connection: int = 10_000
    unfinished: int = 64
    handshake_s: float = 20.0
    """How long a new connection may take until it speaks HTTP/2."""
    streams: int = 64


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a gRPC server listens: host:port (port 0 takes a free one), with TLS or without, and its limits.

    `health_address` is a second host:port that answers health and nothing else, without TLS; empty for none. Clients
    are asked to connect anew after `max_connection_age_s` seconds; 0 leaves connections alone. A connection whose
    client pings more often than every `least_ping_interval_s` seconds is closed.
    """

    address: str
    tls: TlsFiles | None = None
    health_address: str = ""
    max_connection_age_s: float = 0.0
    least_ping_interval_s: float = 1.0
    limits: Limits = Limits()


def check_certificates(path: Path) -> None:
    """Raise ValueError unless a file holds at least one certificate in PEM."""
    _check_readable(path)
    try:
        ssl.create_default_context(cafile=str(path))
    except ssl.SSLError as error:
        raise ValueError(f"expected certificates in PEM, {path} holds none: {error.reason or error}") from error


def check_key(cert_file: Path | None, key_file: Path) -> None:
    """Raise ValueError unless a file holds the private key, in PEM and without a password, of the certificate.

    Without a certificate only whether the file can be read is looked at.
    """
    _check_readable(key_file)
    if cert_file is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password: without one, OpenSSL would ask at the terminal for the password of an encrypted key.
        context.load_cert_chain(cert_file, key_file, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"expected the private key of {cert_file}, {key_file} holds another one") from error
        raise ValueError(
            f"expected a private key in PEM without a password, {key_file} holds none: {error.reason or error}"
        ) from error


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"expected a file that can be read, {path}: {error.strerror}") from error
