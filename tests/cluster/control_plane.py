"""A control plane of processes on this machine: etcd, API server, controllers, scheduler."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from api import Api, Refused
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from headrace_local.ports import find_free

START_S = 180.0


@contextmanager
def started(programs: Path, folder: Path) -> Iterator[tuple[Api, Path]]:
    """Start a control plane; give its client and a kubeconfig, and stop it at the end."""
    client_port, peer_port, port = find_free(3)
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    write_keys(folder)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(configuration(port, token)))
    store = f"http://127.0.0.1:{client_port}"
    with ExitStack() as stack:

        def run(name: str, command: list[str]) -> None:
            stack.enter_context(running(folder / f"{name}.log", command))

        peer = f"http://127.0.0.1:{peer_port}"
        listening = ["--listen-client-urls", store, "--advertise-client-urls", store, "--listen-peer-urls", peer]
        listening += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        run("etcd", ["etcd", "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync", *listening])
        run("apiserver", [str(programs / "kube-apiserver"), *server_options(folder, store, port)])
        api = Api(port, token)
        wait_ready(api)
        reached = ["--kubeconfig", str(kubeconfig), "--leader-elect=false"]
        key = ["--service-account-private-key-file", str(folder / "accounts.key")]
        # Nodes are stand-ins that beat no heart.
        patience = ["--node-monitor-grace-period=24h", "--root-ca-file", str(folder / "certificates/apiserver.crt")]
        manager = [str(programs / "kube-controller-manager"), *reached, *key, *patience]
        run("controller-manager", [*manager, "--horizontal-pod-autoscaler-sync-period=2s", f"--secure-port={free()}"])
        run("scheduler", [str(programs / "kube-scheduler"), *reached, f"--secure-port={free()}"])
        yield api, kubeconfig


def free() -> int:
    """Return a port that is free."""
    return find_free(1)[0]


def server_options(folder: Path, store: str, port: int) -> list[str]:
    """Return what the API server is told."""
    options = {
        "etcd-servers": store,
        "bind-address": "127.0.0.1",
        "secure-port": port,
        "cert-dir": folder / "certificates",
        "token-auth-file": folder / "tokens.csv",
        "authorization-mode": "Node,RBAC",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": folder / "accounts.pub",
        "service-account-signing-key-file": folder / "accounts.key",
        "service-cluster-ip-range": "10.0.0.0/16",
        "endpoint-reconciler-type": "none",
    }
    return [f"--{name}={value}" for name, value in options.items()]


def write_keys(folder: Path) -> None:
    """Write the pair of keys that tokens of service accounts are signed with."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    (folder / "accounts.key").write_bytes(secret)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "accounts.pub").write_bytes(public)


def configuration(port: int, token: str) -> dict[str, object]:
    """Return a kubeconfig."""
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
    }


@contextmanager
def running(log: Path, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in a file; stop it at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ, cwd=log.parent)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_ready(api: Api) -> None:
    """Return once the API server is ready."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        with suppress(OSError, Refused):
            api.get("/readyz")
            return
        time.sleep(0.2)
    raise TimeoutError(f"the API server was not ready after {START_S:.0f} s")
