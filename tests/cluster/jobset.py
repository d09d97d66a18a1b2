"""JobSet's own controller, as a process of this machine, with the webhooks by which it fills in and checks JobSets."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from api import Api
from control_plane import free, running
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ADMISSION = "/apis/admissionregistration.k8s.io/v1"


@contextmanager
def controlled(program: Path, webhooks: Path, api: Api, kubeconfig: Path, folder: Path) -> Iterator[None]:
    """Run the controller; `webhooks` is the file of its module that declares them."""
    port, home = free(), folder / "jobset"
    home.mkdir()
    certificate = _write_certificate(home)
    configuration = {
        "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "webhook": {"host": "127.0.0.1", "port": port, "certDir": str(home)},
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": "0"},
    }
    (home / "configuration.json").write_text(json.dumps(configuration))
    told = ["--config", str(home / "configuration.json"), "--kubeconfig", str(kubeconfig)]
    with running(folder / "jobset.log", [str(program), *told]):
        for declared in yaml.safe_load_all(webhooks.read_text()):
            # Those of pods are for placements that nothing here asks for.
            own = [each for each in declared["webhooks"] if "jobset" in each["clientConfig"]["service"]["path"]]
            for each in own:
                url = f"https://127.0.0.1:{port}{each['clientConfig']['service']['path']}"
                each["clientConfig"] = {"url": url, "caBundle": base64.b64encode(certificate).decode()}
            declared["metadata"]["name"] = f"jobset-{declared['kind'].lower()}"
            api.call("POST", f"{ADMISSION}/{declared['kind'].lower()}s", declared | {"webhooks": own})
        yield


def _write_certificate(folder: Path) -> bytes:
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "webhook")]),
    )
    began = datetime.now(UTC) - timedelta(hours=1)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "tls.key").write_bytes(key.private_bytes(pem, form, plain))
    written = certificate.public_bytes(pem)
    (folder / "tls.crt").write_bytes(written)
    return written
