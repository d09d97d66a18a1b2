"""A small API server over TLS: JobSets of one namespace, made, listed, read and deleted; refusals as asked for."""

from __future__ import annotations

import ipaddress
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from headrace_trainer.adapters.api_server import JobSetApi

TOKEN = "a-token"
PLACE = re.compile(r"/apis/jobset\.x-k8s\.io/v1alpha2/namespaces/training/jobsets(?:/([^/]+))?")
Object = dict[str, Any]


class Cluster:
    """What the API server knows. Safe for use by several threads, as each value is changed as a whole."""

    def __init__(self) -> None:
        self.sets: dict[str, Object] = {}
        self.refusals: list[tuple[int, str]] = []
        """What is answered to those who make something, one after the other, before they are let."""
        self.busy_deletions = 0
        """How many of those who delete something are told to come again."""
        self.answers_lost = 0
        """To how many who make something nothing is answered, although it is made."""
        self.asked: list[str] = []

    def answer(self, method: str, path: str, body: Object) -> tuple[int, Object]:
        """Return status and object for a request."""
        asked = urlsplit(path)
        found = PLACE.fullmatch(asked.path)
        if found is None:
            return 404, status("the server could not find the requested resource")
        name = found[1]
        self.asked.append(f"{method} {name or ''}".strip())
        if method == "POST":
            if self.refusals:
                return self.refusals[0][0], status(self.refusals.pop(0)[1])
            if body["metadata"]["name"] in self.sets:
                return 409, status("already exists")
            self.sets[body["metadata"]["name"]] = body
            if self.answers_lost:
                self.answers_lost -= 1
                return 504, status("the server was unable to return a response in time")
            return 201, body
        if name is None:
            key, _, value = parse_qs(asked.query)["labelSelector"][0].partition("=")
            held = [each for each in self.sets.values() if each["metadata"]["labels"].get(key) == value]
            return 200, {"items": held}
        held_one = self.sets.get(name)
        if held_one is None:
            return 404, status(f'jobsets.jobset.x-k8s.io "{name}" not found')
        if method == "DELETE":
            if self.busy_deletions:
                self.busy_deletions -= 1
                return 429, status("the server has received too many requests")
            del self.sets[name]
        return 200, held_one


def status(message: str) -> Object:
    return {"kind": "Status", "message": message}


@contextmanager
def serving(cluster: Cluster, account: Path) -> Iterator[JobSetApi]:
    """Serve a cluster; give the client of a service account, whose folder is written."""
    key, certificate = _certificate()
    (account / "ca.crt").write_bytes(certificate)
    (account / "token").write_text(f"{TOKEN}\n")
    (account / "namespace").write_text("training")
    (account / "server.pem").write_bytes(key + certificate)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(size)) if size else {}
            code, answer = 401, status("Unauthorized")
            if self.headers["Authorization"] == f"Bearer {TOKEN}":
                code, answer = cluster.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names that the server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(account / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield JobSetApi(("127.0.0.1", server.server_port), account)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _certificate() -> tuple[bytes, bytes]:

    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "api")]),
    )
    began = datetime.now(UTC) - timedelta(hours=1)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(pem, form, plain), certificate.public_bytes(pem)
