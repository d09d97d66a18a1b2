"""A client of Triton over mutual TLS, with the options that it has for that."""

from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

pytestmark = pytest.mark.contract

PROGRAM = Path(__file__).parents[2] / "foreign" / "triton_tls.py"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for both sides that is its own CA, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - dt.timedelta(days=1),
        not_valid_after=now + dt.timedelta(days=1),
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    certificate_file, key_file = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file.write_bytes(key.private_bytes(*form))
    return certificate_file, key_file


def test_mutual_tls(start_server: Callable[..., Any], pair: tuple[Path, Path], foreign_python: str) -> None:
    certificate, key = pair
    files = {"cert_file": certificate, "key_file": key, "client_ca_file": certificate}
    server = start_server(**{f"grpc_tls_{name}": path for name, path in files.items()}, handshake_timeout_s=3.0)
    command = [foreign_python, str(PROGRAM), server.address, str(certificate), str(key), str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == 2
    assert not any(results.values()), results
    check_rest(server.rest_address, certificate, key)


def check_rest(address: str, certificate: Path, key: Path) -> None:
    """Check that the REST port takes the same certificates, and no caller without one."""
    context = ssl.create_default_context(cafile=str(certificate))
    host, _, port = address.partition(":")
    with pytest.raises((ssl.SSLError, ConnectionError)), _asked(host, int(port), context):
        pass
    with pytest.raises((http.client.BadStatusLine, ConnectionError)), _asked(host, int(port), None):
        pass
    with socket.create_connection((host, int(port)), timeout=20) as silent:
        assert silent.recv(1) == b""
    context.load_cert_chain(certificate, key)
    with _asked(host, int(port), context) as answer:
        assert (answer.status, json.loads(answer.read())["ready"]) == (200, True)


@contextmanager
def _asked(host: str, port: int, context: ssl.SSLContext | None) -> Iterator[http.client.HTTPResponse]:
    connection = (
        http.client.HTTPConnection(host, port, timeout=20)
        if context is None
        else http.client.HTTPSConnection(host, port, timeout=20, context=context)
    )
    with closing(connection):
        connection.request("GET", "/v2/models/digits/ready")
        yield connection.getresponse()
