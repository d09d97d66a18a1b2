"""TLS to the services: which CA they are checked against, and what the client shows of itself."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from headrace_client.errors import SettingInvalid

CA_SETTING = "HEADRACE_TLS_CA_FILE"
CERT_SETTING = "HEADRACE_TLS_CERT_FILE"
KEY_SETTING = "HEADRACE_TLS_KEY_FILE"
NAME_SETTING = "HEADRACE_TLS_SERVER_NAME"
MISMATCH = "KEY_VALUES_MISMATCH"
"""OpenSSL's word for a key that is not the certificate's."""


@dataclass(frozen=True)
class Tls:
    """PEM files: the CAs that services are checked against and, for mutual TLS, a certificate with its key.

    `server_name` is the name that a service's certificate must have; empty for that in its address.
    """

    ca_file: Path
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what a channel needs. Raises SettingInvalid when a file cannot be used."""
        authorities = _read(self.ca_file, CA_SETTING)
        key = None if self.key_file is None else _read(self.key_file, KEY_SETTING)
        certificate = None if self.cert_file is None else _read(self.cert_file, CERT_SETTING)
        self._check()
        return grpc.ssl_channel_credentials(authorities, key, certificate)

    def _check(self) -> None:
        """Raise SettingInvalid for what gRPC takes in silence: each call would look as if nobody were there."""
        _check_certificates(self.ca_file, CA_SETTING)
        if self.cert_file is None or self.key_file is None:
            return
        _check_certificates(self.cert_file, CERT_SETTING)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            # An empty password: without one, OpenSSL would ask at the terminal for that of an encrypted key.
            context.load_cert_chain(self.cert_file.expanduser(), self.key_file.expanduser(), password="")
        except ssl.SSLError as error:
            wrong = f"{self.key_file} holds " + ("another one" if error.reason == MISMATCH else "none")
            raise SettingInvalid(
                f"{KEY_SETTING}: expected the private key of {self.cert_file}, in PEM without a password, {wrong}"
            ) from error


def find_tls(environment: Mapping[str, str] | None = None) -> Tls | None:
    """Return what the settings say of TLS; None when they name no CA: calls go in plain text.

    Raises SettingInvalid when one of them is useless without another.
    """
    environment = os.environ if environment is None else environment
    given = {name: environment.get(name, "") for name in (CA_SETTING, CERT_SETTING, KEY_SETTING, NAME_SETTING)}
    authorities, certificate, key, server_name = given.values()
    if bool(certificate) != bool(key):
        raise SettingInvalid(f"{CERT_SETTING} and {KEY_SETTING}: expected both or neither, got one")
    if not authorities:
        if useless := [name for name, value in given.items() if value]:
            raise SettingInvalid(f"{CA_SETTING}: expected the CA of the services beside {useless[0]}, got nothing")
        return None
    return Tls(
        Path(authorities),
        Path(certificate) if certificate else None,
        Path(key) if key else None,
        server_name,
    )


def _check_certificates(path: Path, setting: str) -> None:
    try:
        ssl.create_default_context(cafile=path.expanduser())
    except ssl.SSLError as error:
        raise SettingInvalid(f"{setting}: expected certificates in PEM, {path} holds none") from error


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise SettingInvalid(f"{setting}: expected a PEM file, {path}: {error.strerror}") from error
