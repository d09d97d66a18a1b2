"""Values are closed, explained, and refused with the reason when they cannot work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "headrace"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
BROKERS, STORE = {"bootstrapServers": "kafka:9092"}, {"url": "s3://bucket/headrace"}
SASL = {"mechanism": "PLAIN", "existingSecret": "kafka"}
SPEC = "metadata: {name: %s}\nstream: {topic: scans}\n"
SHARED = {"url": "file:///var/lib/headrace/objects"}


def service(name: str, **values: Any) -> dict[str, Any]:
    return {"services": {name: values}}


def kafka(**values: Any) -> dict[str, Any]:
    return {"kafka": BROKERS | values}


REFUSED: list[tuple[dict[str, Any], str]] = [
    # what nobody knows
    ({"kafak": {}}, "additional properties 'kafak' not allowed"),
    (kafka(bootstrap="kafka:9092"), "at '/kafka': additional properties 'bootstrap' not allowed"),
    (service("inferense", replicas=2), "at '/services': additional properties 'inferense' not allowed"),
    (service("inference", repplicas=2), "at '/services/inference': additional properties 'repplicas' not allowed"),
    (service("trainer", hpa={"enabled": True}), "at '/services/trainer': additional properties 'hpa' not allowed"),
    (service("inference", keda={"enabled": True}), "additional properties 'keda' not allowed"),
    ({"defaults": {"resources": {"request": {}}}}, "additional properties 'request' not allowed"),
    ({"networkPolicy": {"clients": {"trainer": []}}}, "additional properties 'trainer' not allowed"),
    ({"applying": {"topics": True}}, "at '/applying': additional properties 'topics' not allowed"),
    (service("trainer", extraVolumes=[{"emptyDir": {}}]), "extraVolumes/0': missing property 'name'"),
    # settings: those of the service, and in their range
    (service("inference", settings={"max_row": 1}), "additional properties 'max_row' not allowed"),
    (service("inference", settings={"max_rows": 0}), "at '/services/inference/settings/max_rows': minimum: got 0"),
    (service("trainer", settings={"drain_s": 1}), "additional properties 'drain_s' not allowed"),
    (service("trainer", settings={"store_url": "s3://b"}), "additional properties 'store_url' not allowed"),
    (service("trainer", settings={"kafka_sasl_password": "p"}), "'kafka_sasl_password' not allowed"),
    ({"defaults": {"settings": {"log_level": "LOUD"}}}, "at '/defaults/settings/log_level': value must be one of"),
    # wrong kinds
    (service("trainer", replicas="two"), "at '/services/trainer/replicas': got string, want integer"),
    (kafka(securityProtocol="TLS"), "at '/kafka/securityProtocol': value must be one of 'PLAINTEXT', 'SSL'"),
    # what nothing can be called, and where nothing can be
    ({"pipelines": {"Bad_Name": {"topic": "x"}}}, "pipelines: expected names of lower-case letters, digits and inner"),
    ({"store": STORE | {"existingSecret": "Bad_Name"}}, "at '/store/existingSecret': 'Bad_Name' does not match"),
    ({"store": STORE | {"caSecret": "Bad_Name"}}, "at '/store/caSecret': 'Bad_Name' does not match pattern"),
    ({"store": SHARED | {"existingClaim": "a..b"}}, "at '/store/existingClaim': 'a..b' does not match pattern"),
    ({"image": {"pullSecrets": ["-a"]}}, "at '/image/pullSecrets/0': '-a' does not match pattern"),
    (service("trainer", kafkaSecret="Bad_Name"), "at '/services/trainer/kafkaSecret': 'Bad_Name' does not match"),
    ({"defaults": {"tls": {"existingSecret": "a/b"}}}, "at '/defaults/tls/existingSecret': 'a/b' does not match"),
    ({"networkPolicy": {"monitoring": [{"ipBlock": {"cidr": "10.0.0.0"}}]}}, "/cidr': '10.0.0.0' does not match"),
    (service("trainer", image={"digest": "sha256:0a"}), "trainer/image/digest': 'sha256:0a' does not match pattern"),
    ({"image": {"tag": "sha256:0a1b"}}, "at '/image/tag': 'sha256:0a1b' does not match pattern"),
    ({"image": {"repository": "example.org/headrace/"}}, "at '/image/repository': 'example.org/headrace/' does not"),
    ({"pipelines": {"digits": {"topic": "a b"}}}, "at '/pipelines/digits/topic': 'a b' does not match pattern"),
    ({"fullnameOverride": "Bad_Name"}, "at '/fullnameOverride': 'Bad_Name' does not match pattern"),
    ({"kafka": {"bootstrapServers": "k:9092,k:99999"}}, 'Servers: expected a port from 1 to 65535, got "k:99999"'),
    ({"kafka": {"bootstrapServers": "k:0"}}, 'bootstrapServers: expected a port from 1 to 65535, got "k:0"'),
    ({"redis": {"url": "redis://c:70000/0"}}, 'redis.url: expected a port from 1 to 65535, got "c:70000"'),
    ({"telemetry": {"otlpEndpoint": "http://c:70000"}}, "telemetry.otlpEndpoint: expected a port from 1 to 65535"),
    (kafka(topics={"replicationFactor": 0}), "replicationFactor: expected at least 1, or -1 for the brokers' default"),
    (kafka(topics={"replicationFactor": -2}), "at '/kafka/topics/replicationFactor': minimum: got -2, want -1"),
    # what cannot work together
    ({"pipelines": {"digits": {}}}, "pipelines.digits.topic: expected the topic of its producers, or a spec that"),
    ({"pipelines": {"digits": {"spec": "a: ["}}}, "pipelines.digits.spec: expected a pipeline as YAML, got: "),
    ({"pipelines": {"digits": {"spec": SPEC % "others"}}}, 'expected metadata.name digits, as its key says, got "oth'),
    (
        {"pipelines": {"digits": {"topic": "other", "spec": SPEC % "digits"}}},
        "pipelines.digits.topic: expected scans as in its spec, or nothing, got other",
    ),
    (
        {"pipelines": {"digits": {"spec": SPEC % "digits"}}, "defaults": {"tls": {"existingSecret": "s"}}},
        "applying.tls.existingSecret: expected a secret with the CA of the registry's certificate, because",
    ),
    ({"kafka": {"bootstrapServers": ""}}, 'kafka.bootstrapServers: expected host:port, or several separated'),
    ({"kafka": {"bootstrapServers": "kafka"}}, 'expected host:port, or several separated by commas, got "kafka"'),
    ({"store": {"url": "bucket"}}, 'store.url: expected s3://bucket or s3://bucket/folder, or file:///var/lib'),
    ({"store": {"url": "gs://bucket/x"}}, 'with an existingClaim, got "gs://bucket/x"'),
    ({"store": {"url": "s3://"}}, 'with an existingClaim, got "s3://"'),
    ({"store": {"url": "s3:///folder"}}, 'with an existingClaim, got "s3:///folder"'),
    ({"store": SHARED}, "store: expected file:///var/lib/headrace/objects and an existingClaim"),
    ({"store": {"url": SHARED["url"] + "2", "existingClaim": "c"}}, "store: expected file:///var/lib/headrace/objects"),
    ({"store": {"url": SHARED["url"] + "/../x", "existingClaim": "c"}}, 'got "file:///var/lib/headrace/objects/../x"'),
    ({"networkPolicy": {"store": {"ports": []}}}, "networkPolicy.store.ports: expected at least one, because a rule"),
    (
        {"redis": {"existingSecret": "s"}, "networkPolicy": {"redis": {"ports": []}}},
        "networkPolicy.redis.ports: expected at least one, because a rule without ports opens all of them, got none",
    ),
    ({"store": STORE | {"existingClaim": "c"}}, "objects because store.existingClaim is set, got"),
    (kafka(securityProtocol="SASL_SSL"), "kafka.sasl: expected mechanism and existingSecret with SASL_SSL"),
    (kafka(sasl=SASL), "expected SASL_SSL or SASL_PLAINTEXT because kafka.sasl is set"),
    (kafka(tls={"existingSecret": "s"}), "expected SSL or SASL_SSL because kafka.tls is set, got PLAINTEXT"),
    (kafka(securityProtocol="SSL", tls={"certKey": "c"}), "kafka.tls: expected certKey and keyKey together"),
    (kafka(topics={"replicationFactor": 1}), "minInsyncReplicas: expected at most replicationFactor (1), got 2"),
    ({"redis": {"url": "redis://:secret@cache:6379/0"}}, "redis.url: expected no user and no password here"),
    ({"redis": {"url": "redis://cache", "existingSecret": "s"}}, "redis: expected url or existingSecret, got both"),
    (service("model-registry", replicas=2), "services.model-registry.replicas: expected 1, got 2: a second one takes"),
    (service("ingestion", keda={"enabled": True}), "pipelines: expected at least one, because services.ingestion.keda"),
    (
        service("trainer", keda={"enabled": True, "minReplicas": 3, "maxReplicas": 2}),
        "services.trainer.keda.maxReplicas: expected at least minReplicas (3), got 2",
    ),
    (
        service("inference", service={"headless": False, "type": "LoadBalancer"}),
        "networkPolicy.clients.inference: expected an ipBlock, because callers through a LoadBalancer come from",
    ),
    (service("trainer", kafkaSecret="s"), "services.trainer.kafkaSecret: expected kafka.securityProtocol SASL_SSL"),
    (
        service("inference", extraEnv=[{"name": "HEADRACE_LOG_LEVEL", "value": "DEBUG"}]),
        "services.inference.extraEnv: expected no variable of Headrace's own, got HEADRACE_LOG_LEVEL",
    ),
    (
        service("inference", extraEnv=[{"name": "OMP_NUM_THREADS", "value": "2"}]),
        "services.inference.extraEnv: expected each variable once, and none that the chart sets, got OMP_NUM_THREADS",
    ),
    (service("trainer", extraEnv=[{"name": "A", "value": each} for each in "12"]), "that the chart sets, got A"),
    (
        {"defaults": {"podLabels": {"app.kubernetes.io/component": "x"}}},
        "podLabels: expected no label that the chart sets, got app.kubernetes.io/component",
    ),
    (
        {"telemetry": {"serviceMonitor": {"labels": {"helm.sh/chart": "x"}}}},
        "telemetry.serviceMonitor.labels: expected no label that the chart sets, got helm.sh/chart",
    ),
    (
        service("ingestion", preStopSeconds=60),
        "services.ingestion.terminationGracePeriodSeconds: expected more than preStopSeconds and settings.drain_s "
        "together (60), got 60",
    ),
    (service("inference", settings={"drain_s": 119}, preStopSeconds=1), "settings.drain_s together (120), got 120"),
    (
        service("inference", service={"type": "LoadBalancer"}),
        "services.inference.service.headless: expected false beside the type LoadBalancer, because a headless service",
    ),
    ({"upstream": {"hosts": ["http://vllm:8000"]}}, "upstream.hosts: expected host:port, got"),
    ({"upstream": {"vllm": {"enabled": True}}}, "upstream.vllm.model: expected a folder below /models or the name"),
    (
        {"upstream": {"vllm": {"enabled": True, "model": "m", "nodes": 2}}},
        "upstream.vllm.nodes: expected a divisor of tensorParallel times pipelineParallel (1), got 2",
    ),
    ({"upstream": {"vllm": {"enabled": True, "model": "m", "key": "k"}}}, "upstream.keysSecret: expected the secret"),
    ({"schemaRegistries": {"hosts": ["https://schemas"]}}, "schemaRegistries.hosts: expected host:port, got"),
    (service("inference", settings={"upstream_hosts": "a:1"}), "additional properties 'upstream_hosts' not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "reason"), REFUSED, ids=[re.sub(r"[^\w.]+", "-", each[1])[:60] for each in REFUSED])
def test_what_cannot_work_is_refused_with_the_reason(
    helm: Callable[..., str], script: Callable[[str], ModuleType], tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({"kafka": BROKERS, "store": STORE} | values))
    with pytest.raises(script("helm").HelmRefused) as refused:
        helm("template", "headrace", str(CHART), "--values", str(file))
    assert reason in str(refused.value)


def test_the_values_alone_name_what_only_the_installer_knows(
    helm: Callable[..., str], script: Callable[[str], ModuleType]
) -> None:
    with pytest.raises(script("helm").HelmRefused, match=r"kafka\.bootstrapServers: expected host:port"):
        helm("template", "headrace", str(CHART))


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("properties") is not None and schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)


def test_the_schema_is_closed() -> None:
    open_ones = [each for each in objects(SCHEMA) if each.get("additionalProperties") is not False]
    # What services share is referred to key by key, never as a whole.
    assert open_ones == [SCHEMA["$defs"]["service"]]
    assert '"#/$defs/service"' not in json.dumps(SCHEMA)


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


def test_every_value_is_explained(script: Callable[[str], ModuleType]) -> None:
    explained = dict(script("chart").explained((CHART / "values.yaml").read_text()))
    shared = {path[1:] for path in explained if path[0] == "defaults"}
    once = {path[2:] for path in explained if path[0] == "services"}
    for path in leaves(VALUES):
        upwards = [path[:length] for length in range(1, len(path) + 1)]
        known = any(each in explained for each in upwards)
        if path[0] == "services":
            known = known or any(each[2:] in shared | once for each in upwards)
            known = known or path[2] == "settings"
        assert known, ".".join(path)
    assert all(meaning.endswith(".") for meaning in explained.values())


def test_every_value_of_the_schema_stands_in_the_values_file() -> None:
    def missing(schema: dict[str, Any], values: Any, path: str) -> Iterator[str]:
        for key, part in schema.get("properties", {}).items():
            if key not in values:
                yield f"{path}{key}"
            elif isinstance(values[key], dict):
                yield from missing(part, values[key], f"{path}{key}.")

    top = SCHEMA | {"properties": {key: part for key, part in SCHEMA["properties"].items() if key != "global"}}
    top["properties"] = {key: part for key, part in top["properties"].items() if key not in ("defaults", "services")}
    assert list(missing(top, VALUES, "")) == []
    assert SCHEMA["$defs"]["service"]["properties"].keys() | {"settings"} == VALUES["defaults"].keys()
    for kind, name in (("keda", "trainer"), ("hpa", "inference")):
        assert SCHEMA["$defs"][kind]["properties"].keys() == VALUES["services"][name][kind].keys()


def test_the_version_is_the_code_s() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (CHART.parents[2] / "shared" / "runtime" / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert version is not None
    assert chart["version"] == chart["appVersion"] == version[1]
