"""The chart says of the services what their code says: settings, ports, needs, groups, topics."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from headrace_runtime.record_topics import group_of, raw_topic
from headrace_runtime.settings import PREFIX, KafkaSettings, ServiceSettings, load_settings
from headrace_runtime.topics import COMPRESSION_REQUESTED, EVALUATION_REQUESTED, TRAINING_REQUESTED

ROOT = Path(__file__).parents[2]
Facts = dict[str, dict[str, Any]]


def package(service: str) -> str:
    return f"headrace_{service.replace('-', '_')}"


def source(service: str) -> str:
    return "".join(path.read_text() for path in (ROOT / "services" / service / "src" / package(service)).rglob("*.py"))


def settings_class(service: str) -> type[ServiceSettings]:
    found: type[ServiceSettings] = importlib.import_module(f"{package(service)}.settings").Settings
    return found


def named(pod: dict[str, Any]) -> set[str]:
    variables = {each["name"] for each in pod["spec"]["containers"][0]["env"]}
    return {name.removeprefix(PREFIX).lower() for name in variables if name.startswith(PREFIX)}


def services_and_topics(pods: dict[str, Any]) -> dict[str, Any]:
    return {component: pod for component, pod in pods.items() if component not in ("pipelines", "gc", "test")}


def test_every_setting_of_the_chart_is_one_of_the_service(pods: dict[str, Any]) -> None:
    for component, pod in services_and_topics(pods).items():
        fields = (KafkaSettings if component == "topics" else settings_class(component)).model_fields
        assert named(pod) <= fields.keys()
        required = {name for name, field in fields.items() if field.is_required()}
        assert required <= named(pod)
        assert {"kafka_bootstrap_servers", "kafka_security_protocol"} <= named(pod)


def test_nothing_is_left_to_a_default_that_is_meant_for_one_machine(pods: dict[str, Any], facts: Facts) -> None:
    for component in facts:
        local = {
            name
            for name, field in settings_class(component).model_fields.items()
            if re.search(r"127\.0\.0\.1|\.headrace", str(field.default))
        }
        unused = set() if facts[component].get("store") else {"store_url"}
        assert local - unused <= named(pods[component])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the secrets would hold, and the template of pods."""
    folder, key = tmp_path_factory.mktemp("certificates"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "headrace")])
    began = datetime.now(UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    for file in ("ca.crt", "client-ca.crt", "tls.crt"):
        (folder / file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "tls.key").write_bytes(key.private_bytes(pem, form, plain))
    template = {"name": "run", "pod": {"spec": {"containers": [{}]}}}
    (folder / "template.json").write_text(json.dumps(template))
    return folder


def test_services_accept_what_the_chart_tells_them(
    pods: dict[str, Any], certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for component, pod in services_and_topics(pods).items():
        with monkeypatch.context() as patch:
            for variable in pod["spec"]["containers"][0]["env"]:
                value = re.sub(r"^/etc/headrace/\w+/", f"{certificates}/", variable.get("value", "a-name"))
                patch.setenv(variable["name"], value)
            settings = load_settings(KafkaSettings if component == "topics" else settings_class(component))
        assert settings.kafka_client()["bootstrap_servers"] != ["127.0.0.1:9092"]
        assert getattr(settings, "drain_s", 10.0) == 10.0


def test_settings_that_values_may_not_hold_exist(script: Callable[[str], ModuleType], facts: Facts) -> None:
    known = {name for service in facts for name in settings_class(service).model_fields}
    assert known >= script("chart").GOVERNED


def test_facts_name_every_service(facts: Facts) -> None:
    assert set(facts) == {path.parent.name for path in ROOT.glob("services/*/pyproject.toml")}
    known = {"workload", "grpcPort", "workDir", "store", "redis", "single", "lag"}
    assert all(set(each) <= known for each in facts.values())


def test_facts_are_those_of_the_code(facts: Facts, service: str) -> None:
    fact, fields, code = facts[service], settings_class(service).model_fields, source(service)
    works = "RunWorker" in code
    port = fields["listen_address"].default.rpartition(":")[2] if "listen_address" in fields else None
    assert fact.get("grpcPort") == (int(port) if port else None)
    assert bool(fact.get("workDir")) == ("work_dir" in fields)
    assert bool(fact.get("redis")) == ("redis_url" in fields)
    assert bool(fact.get("store")) == (works or "ObjectStore(" in code)
    assert bool(fact.get("single")) == ("instance=SINGLE" in code)
    # A member that leaves when it stops owns nothing that its next pod would have to take back.
    leaves = "leaves=True" in code
    owns = works or ("GroupConsumer," in code and not leaves)
    assert fact["workload"] == ("StatefulSet" if owns else "Deployment")
    named_after_it = works or ("instance=settings.instance" in code and not leaves)
    assert owns == (named_after_it or bool(fact.get("single")))


def test_lag_is_looked_for_where_the_work_waits(facts: Facts) -> None:
    wiring = {service: importlib.import_module(f"{package(service)}.wiring") for service in facts}
    assert facts["trainer"]["lag"] == {"group": wiring["trainer"].NAME, "topics": [TRAINING_REQUESTED.name]}
    waits = [COMPRESSION_REQUESTED.name, EVALUATION_REQUESTED.name]
    assert facts["compressor"]["lag"] == {"group": wiring["compressor"].NAME, "topics": waits}
    for service, topic in (("ingestion", "{source}"), ("preprocessing", raw_topic("{pipeline}"))):
        assert service == wiring[service].NAME
        assert "name = group_of(NAME, pipeline.own_name)" in source(service)
        assert facts[service]["lag"] == {"group": group_of(service, "{pipeline}"), "topics": [topic]}


def test_scalers_watch_each_pipeline(render: Callable[[Any], list[dict[str, Any]]]) -> None:
    on = {"keda": {"enabled": True}}
    values = {"pipelines": {"a": {"topic": "x"}, "b": {"topic": "y"}}, "services": {"ingestion": on, "trainer": on}}
    scalers = {each["metadata"]["name"]: each["spec"] for each in render(values) if each["kind"] == "ScaledObject"}
    watched = {
        name: [(each["metadata"]["consumerGroup"], each["metadata"]["topic"]) for each in spec["triggers"]]
        for name, spec in scalers.items()
    }
    assert watched == {
        "headrace-ingestion": [("ingestion.a", "x"), ("ingestion.b", "y")],
        "headrace-trainer": [("trainer", TRAINING_REQUESTED.name)],
    }
