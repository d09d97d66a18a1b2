"""What each process is told, for the embedded platform and for an external broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from headrace_local.kafka import new_cluster_id, properties
from headrace_local.processes import GRPC_PROTECTION, KAFKA_SECURITY, service_process, valkey_process
from headrace_local.settings import PlatformSettings
from headrace_runtime.errors import SettingsInvalid
from headrace_runtime.services import SERVICES
from headrace_runtime.settings import load_settings

EMBEDDED = PlatformSettings.model_validate({"home": "/home/of/platform"})
EXTERNAL = PlatformSettings.model_validate(
    {"home": "/h", "kafka_bootstrap_servers": "a:1,b:2", "redis_url": "rediss://cache:6380/1", "store_url": "s3://b"}
)


def environment(settings: PlatformSettings, name: str) -> dict[str, str]:
    return dict(service_process(settings, SERVICES[name]).environment)


def test_default_addresses() -> None:
    listens = {name: environment(EMBEDDED, name).get("HEADRACE_LISTEN_ADDRESS") for name in SERVICES}
    assert listens == {
        "ingestion": "127.0.0.1:7010",
        "preprocessing": None,
        "model-registry": "127.0.0.1:7020",
        "trainer": None,
        "compressor": None,
        "inference": "127.0.0.1:8001",
    }
    metrics = [environment(EMBEDDED, name)["HEADRACE_METRICS_ADDRESS"] for name in SERVICES]
    assert metrics == [f"127.0.0.1:{port}" for port in range(8002, 8008)]


def test_services_use_the_embedded_broker_cache_and_folder() -> None:
    inference = environment(EMBEDDED, "inference")
    assert inference["HEADRACE_KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:9092"
    assert inference["HEADRACE_REDIS_URL"] == "redis://127.0.0.1:6379/0"
    assert inference["HEADRACE_STORE_URL"] == "/home/of/platform/objects"
    assert inference["HEADRACE_WORK_DIR"] == "/home/of/platform/work/inference"
    assert "HEADRACE_REDIS_URL" not in environment(EMBEDDED, "trainer")


def test_tls_and_sasl_reach_the_services_for_an_external_broker_only() -> None:
    shape = SERVICES["ingestion"]
    assert service_process(EXTERNAL, shape).unset == GRPC_PROTECTION
    assert service_process(EMBEDDED, shape).unset == (*GRPC_PROTECTION, *KAFKA_SECURITY)
    assert environment(EXTERNAL, "inference")["HEADRACE_KAFKA_BOOTSTRAP_SERVERS"] == "a:1,b:2"
    assert environment(EXTERNAL, "inference")["HEADRACE_REDIS_URL"] == "rediss://cache:6380/1"
    assert environment(EXTERNAL, "trainer")["HEADRACE_STORE_URL"] == "s3://b"


def test_modules_are_named_after_services() -> None:
    assert service_process(EMBEDDED, SERVICES["model-registry"]).command[1:] == ("-m", "headrace_model_registry")


def test_valkey_is_a_cache_on_the_loopback() -> None:
    command = " ".join(valkey_process(EMBEDDED, Path("/bin/valkey-server")).command)
    for option in ("--bind 127.0.0.1", "--port 6379", "--appendonly no", "--maxmemory-policy allkeys-lru"):
        assert option in command


def test_kafka_listens_where_it_is_told_and_nowhere_else() -> None:
    found = properties(EMBEDDED)
    assert found["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert found["auto.create.topics.enable"] == "false"


def test_cluster_ids_never_look_like_options() -> None:
    ids = {new_cluster_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(one) for one in ids} == {22}
    assert not any(one.startswith("-") for one in ids)


def test_a_bad_address_is_refused_by_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA_ADDRESS", "localhost")
    with pytest.raises(SettingsInvalid, match="HEADRACE_KAFKA_ADDRESS"):
        load_settings(PlatformSettings)
