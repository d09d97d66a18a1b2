"""TLS and mutual TLS on every gRPC port: who is answered, who is refused, and what stops the start."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from headrace_client import InferenceClient, IngestionClient, RegistryClient
from headrace_client.errors import NotFound, SettingInvalid, Unreachable
from headrace_client.tls import Tls, find_tls
from headrace_runtime.errors import SettingsInvalid
from headrace_runtime.rpc.host import LIVE, GrpcHost
from headrace_runtime.services import SERVICES
from headrace_runtime.settings import GrpcSettings, load_settings
from headrace_runtime.tls_files import Listening, TlsFiles

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract

SERVING = health_pb2.HealthCheckResponse.SERVING
DAY = dt.timedelta(days=1)


def subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass
class Issued:
    """A certificate and its key, as PEM files."""

    cert_file: Path
    key_file: Path


class Authority:
    """A CA that lives for one test."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = subject(name)
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        built = self._builder(self._name, self._key).add_extension(constraints, critical=True)
        self.ca_file = self._write("ca.pem", built.sign(self._key, hashes.SHA256()))

    def issue(self, name: str) -> Issued:
        """Issue a certificate for servers and clients on the loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        built = self._builder(subject(name), key).add_extension(x509.SubjectAlternativeName(names), critical=False)
        key_file = self._folder / f"{name}.key"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Issued(self._write(f"{name}.pem", built.sign(self._key, hashes.SHA256())), key_file)

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=name,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - DAY,
            not_valid_after=now + DAY,
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self._folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture
def new_authority(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Authority]:
    return lambda: Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def authority(new_authority: Callable[[], Authority]) -> Authority:
    return new_authority()


@contextmanager
def running(service: str, broker: Platform, folder: Path, **settings: Any) -> Iterator[GrpcHost]:
    """Run a service in this process; yield its gRPC server."""
    package = f"headrace_{service.replace('-', '_')}"
    chosen = {
        "kafka_bootstrap_servers": broker.bootstrap_servers,
        "kafka_session_timeout_ms": 6_000,
        "metrics_address": "",
        "listen_address": "127.0.0.1:0",
        "store_url": str(folder / "store"),
        **settings,
    }
    if service == "inference":
        chosen |= {"redis_url": broker.redis_url, "work_dir": folder / "work", "drain_s": 0.0}
    made = import_module(f"{package}.settings").Settings.model_validate(chosen)
    built = import_module(f"{package}.wiring").build(made)
    built.start()
    try:
        yield next(part for part in built._components if isinstance(part, GrpcHost))
    finally:
        built.stop()


def ask(service: str, port: int, tls: Tls | None) -> None:
    """Make one call by the Python client. Raises what the client raises."""
    address = f"127.0.0.1:{port}"
    if service == "inference":
        with InferenceClient(address, tls=tls, timeout_s=20) as inference:
            inference.ready()
    elif service == "ingestion":
        with IngestionClient(address, tls=tls, timeout_s=20) as ingestion, pytest.raises(NotFound):
            list(ingestion.dead_letters("nobody"))
    else:
        with RegistryClient(address, tls=tls) as registry:
            registry.releases()


@pytest.mark.parametrize("service", [name for name, shape in SERVICES.items() if shape.grpc_port])
def test_a_service_answers_only_callers_that_it_can_trust(
    service: str, broker: Platform, new_authority: Callable[[], Authority], tmp_path: Path
) -> None:
    authority, stranger = new_authority(), new_authority()
    own, caller, other = authority.issue("server"), authority.issue("caller"), stranger.issue("caller")
    protected = {
        "grpc_tls_cert_file": own.cert_file,
        "grpc_tls_key_file": own.key_file,
        "grpc_tls_client_ca_file": authority.ca_file,
        "health_address": "127.0.0.1:0",
    }
    with running(service, broker, tmp_path, **protected) as host:
        ask(service, host.port, Tls(authority.ca_file, caller.cert_file, caller.key_file))
        closes, fails = "it closes connections at once: does it speak TLS", "TLS failed: is HEADRACE_TLS_CA_FILE the CA"
        plain_text, no_certificate = None, Tls(authority.ca_file)
        anothers_certificate = Tls(authority.ca_file, other.cert_file, other.key_file)
        anothers_ca = Tls(stranger.ca_file, caller.cert_file, caller.key_file)
        another_name = Tls(authority.ca_file, caller.cert_file, caller.key_file, "elsewhere")
        for why, refused in (
            (closes, plain_text),
            (closes, no_certificate),
            (closes, anothers_certificate),
            (fails, anothers_ca),
            (fails, another_name),
        ):
            with pytest.raises(Unreachable, match=why):
                ask(service, host.port, refused)
        assert host.health_port is not None
        with grpc.insecure_channel(f"127.0.0.1:{host.health_port}") as channel:
            assert health(channel) == SERVING
            call: Any = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            with pytest.raises(grpc.RpcError) as nothing_else:
                call(b"", timeout=10)
            assert nothing_else.value.code() is grpc.StatusCode.UNIMPLEMENTED


def health(channel: grpc.Channel) -> Any:
    # Alive, not ready: a release of another test may be one that cannot be loaded here.
    asked = health_pb2.HealthCheckRequest(service=LIVE)
    return health_pb2_grpc.HealthStub(channel).Check(asked, timeout=20, wait_for_ready=True).status


@contextmanager
def protected_host(files: TlsFiles) -> Iterator[GrpcHost]:
    host = GrpcHost(Listening("127.0.0.1:0", files), [], [])
    host.start()
    try:
        yield host
    finally:
        host.stop()


def answered(host: GrpcHost, tls: Tls) -> bool:
    """Tell whether a new connection is answered."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"127.0.0.1:{host.port}", tls.credentials(), options) as channel:
        call = health_pb2_grpc.HealthStub(channel).Check.future(health_pb2.HealthCheckRequest(), timeout=20)
        code = call.code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    return code is grpc.StatusCode.OK


def test_without_a_ca_for_callers_they_need_no_certificate(authority: Authority) -> None:
    own = authority.issue("server")
    with protected_host(TlsFiles(own.cert_file, own.key_file)) as host:
        assert answered(host, Tls(authority.ca_file))


def test_a_rotated_certificate_is_taken_without_a_restart(new_authority: Callable[[], Authority]) -> None:
    old, new = new_authority(), new_authority()
    own, fresh = old.issue("server"), new.issue("server")
    with protected_host(TlsFiles(own.cert_file, own.key_file)) as host:
        assert [answered(host, Tls(each.ca_file)) for each in (old, new)] == [True, False]
        fresh.cert_file.replace(own.cert_file)
        # Half of the rotation: the certificate is there, its key is not. What was in force stays so.
        assert [answered(host, Tls(each.ca_file)) for each in (old, new)] == [True, False]
        fresh.key_file.replace(own.key_file)
        assert [answered(host, Tls(each.ca_file)) for each in (old, new)] == [False, True]


def test_an_open_connection_outlives_a_rotation(new_authority: Callable[[], Authority]) -> None:
    old, new = new_authority(), new_authority()
    own, fresh = old.issue("server"), new.issue("server")
    with (
        protected_host(TlsFiles(own.cert_file, own.key_file)) as host,
        grpc.secure_channel(f"127.0.0.1:{host.port}", Tls(old.ca_file).credentials()) as channel,
    ):
        assert health(channel) == SERVING
        fresh.cert_file.replace(own.cert_file)
        fresh.key_file.replace(own.key_file)
        assert answered(host, Tls(new.ca_file))
        assert health(channel) == SERVING


def problems(monkeypatch: pytest.MonkeyPatch, **variables: object) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(f"HEADRACE_{name}", str(value))
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(GrpcSettings)
    return list(caught.value.problems)


def test_every_problem_of_the_files_stops_the_start(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    missing = tmp_path / "missing.key"
    found = problems(
        monkeypatch,
        GRPC_TLS_CERT_FILE=text,
        GRPC_TLS_KEY_FILE=missing,
        GRPC_TLS_CLIENT_CA_FILE=tmp_path,
        HEALTH_ADDRESS="nowhere",
    )
    assert len(found) == 4
    assert f"expected certificates in PEM, {text} holds none" in found[0]
    assert f"expected a file that can be read, {missing}: No such file" in found[1]
    assert f"expected a file that can be read, {tmp_path}: Is a directory" in found[2]
    assert "expected host:port" in found[3]


def test_a_key_must_be_that_of_the_certificate(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = authority.issue("server"), authority.issue("other")
    (problem,) = problems(monkeypatch, GRPC_TLS_CERT_FILE=own.cert_file, GRPC_TLS_KEY_FILE=other.key_file)
    assert problem.startswith("HEADRACE_GRPC_TLS_KEY_FILE")
    assert f"expected the private key of {own.cert_file}, {other.key_file} holds another one" in problem


@pytest.mark.parametrize(
    ("given", "bad", "message"),
    [
        (["CERT_FILE"], "KEY_FILE", "expected the private key of"),
        (["KEY_FILE"], "KEY_FILE", "expected HEADRACE_GRPC_TLS_CERT_FILE beside it"),
        (["CLIENT_CA_FILE"], "CLIENT_CA_FILE", "expected HEADRACE_GRPC_TLS_CERT_FILE beside it"),
    ],
)
def test_half_of_the_settings_is_none(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, given: list[str], bad: str, message: str
) -> None:
    own = authority.issue("server")
    files = {"CERT_FILE": own.cert_file, "KEY_FILE": own.key_file, "CLIENT_CA_FILE": authority.ca_file}
    (problem,) = problems(monkeypatch, **{f"GRPC_TLS_{name}": files[name] for name in given})
    assert problem.startswith(f"HEADRACE_GRPC_TLS_{bad}")
    assert message in problem


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = authority.issue("server")
    key = serialization.load_pem_private_key(own.key_file.read_bytes(), None)
    own.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (problem,) = problems(monkeypatch, GRPC_TLS_CERT_FILE=own.cert_file, GRPC_TLS_KEY_FILE=own.key_file)
    assert "expected a private key in PEM without a password" in problem


def test_the_command_takes_tls_from_its_settings(broker: Platform, authority: Authority, tmp_path: Path) -> None:
    own, caller = authority.issue("server"), authority.issue("caller")
    protected = {
        "grpc_tls_cert_file": own.cert_file,
        "grpc_tls_key_file": own.key_file,
        "grpc_tls_client_ca_file": authority.ca_file,
    }
    with running("model-registry", broker, tmp_path, **protected) as host:
        settings = {
            "HEADRACE_REGISTRY_ADDRESS": f"localhost:{host.port}",
            "HEADRACE_TLS_CA_FILE": str(authority.ca_file),
            "HEADRACE_TLS_CERT_FILE": str(caller.cert_file),
            "HEADRACE_TLS_KEY_FILE": str(caller.key_file),
        }
        assert headrace(settings, "get", "releases").returncode == 0
        without = {name: value for name, value in settings.items() if "TLS" not in name}
        failed = headrace(without, "get", "releases")
        assert failed.returncode == 1
        assert "HEADRACE_TLS_CA_FILE" in failed.stderr
        halved = {name: value for name, value in settings.items() if "KEY" not in name}
        wrong = headrace(halved, "get", "releases")
        assert (wrong.returncode, "HEADRACE_TLS_KEY_FILE: expected both" in wrong.stderr) == (2, True)


def headrace(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "headrace"), *arguments]
    environment = os.environ | settings | {"COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_settings_of_the_client_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="HEADRACE_TLS_CA_FILE: expected the CA of the services beside"):
        find_tls({"HEADRACE_TLS_SERVER_NAME": "inference"})
    missing = find_tls({"HEADRACE_TLS_CA_FILE": str(tmp_path / "ca.pem")})
    assert missing is not None
    with pytest.raises(SettingInvalid, match=r"HEADRACE_TLS_CA_FILE: expected a PEM file, .*No such file"):
        missing.credentials()
    assert find_tls({}) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"CA": "garbage"}, "HEADRACE_TLS_CA_FILE: expected certificates in PEM, .*garbage holds none"),
        ({"CERT": "garbage"}, "HEADRACE_TLS_CERT_FILE: expected certificates in PEM, .*garbage holds none"),
        ({"KEY": "garbage"}, r"HEADRACE_TLS_KEY_FILE: .* without a password, .*garbage holds none"),
        ({"KEY": "encrypted"}, r"HEADRACE_TLS_KEY_FILE: .* without a password, .*encrypted holds none"),
        ({"KEY": "other"}, r"HEADRACE_TLS_KEY_FILE: expected the private key of .*caller\.pem, .*holds another one"),
    ],
)
def test_files_of_the_client_that_protect_nothing_are_named(tmp_path: Path, given: dict[str, str], said: str) -> None:
    authority = Authority(tmp_path)
    caller, other = authority.issue("caller"), authority.issue("other")
    (tmp_path / "garbage").write_text("garbage")
    password = serialization.BestAvailableEncryption(b"secret")
    private = serialization.load_pem_private_key(caller.key_file.read_bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (tmp_path / "encrypted").write_bytes(private.private_bytes(*form, password))
    files = {"CA": authority.ca_file, "CERT": caller.cert_file, "KEY": caller.key_file}
    files |= {what: other.key_file if name == "other" else tmp_path / name for what, name in given.items()}
    found = find_tls({f"HEADRACE_TLS_{what}_FILE": str(path) for what, path in files.items()})
    assert found is not None
    with pytest.raises(SettingInvalid, match=said):
        found.credentials()
