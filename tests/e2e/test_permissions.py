"""Every service works with the Kafka permissions that docs/producers.md lists, and with no more."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from headrace_client import (
    Goal,
    InferenceClient,
    IngestionClient,
    Prediction,
    RegistryClient,
    freeze,
    predict_records,
    predict_rows,
    wait_for,
)
from headrace_client.waiting import wait_served
from headrace_runtime.access import EVERY, PRODUCERS_TOPIC, Permission, permissions
from headrace_runtime.errors import FailedPrecondition
from headrace_runtime.kafka import LogReader
from headrace_runtime.provision import provision
from headrace_runtime.record_topics import scored_topic
from headrace_runtime.records import Record
from headrace_runtime.services import SERVICES
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topic_plan import PlannedTopic, TopicPlan
from headrace_runtime.topics import INSTALLATION_CLAIMED
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import TopicAuthorizationFailedError

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

PASSWORD = "only-for-tests"
PRODUCER, INSTALLER = "producer", "installer"
TOPIC = "points"
ROWS = 240
PIPELINE = f"""
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {TOPIC}}}
stream:
  topic: {TOPIC}
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, shape: [2], role: feature, range: [-1, 1]}}
    - {{name: side, type: int64, role: label, range: [0, 1]}}
prepare:
  freeze: {{afterRecords: {ROWS}}}
train:
  network: {{kind: mlp, hidden: [4]}}
  epochs: 2
compress:
  variants: [{{kind: int8-dynamic}}]
  gates:
    {{accuracyDrop: 1.0, agreement: 0.0, relativeLogitError: 1000.0, sizeRatio: 100.0, latencyRatio: 1000.0,
     baseline: ignored}}
serve: {{scoring: {{}}}}
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, until: Callable[..., Any]) -> Iterator[tuple[Platform, str]]:
    """A broker with an authorizer and a second listener where everyone says who he is, and that listener's address."""
    from headrace_local import kafka
    from headrace_local.launcher import Platform
    from headrace_local.ports import find_free

    address = f"127.0.0.1:{find_free(1)[0]}"
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in (*SERVICES, PRODUCER, INSTALLER))
    plain = kafka.properties

    def with_authorizer(settings: Any) -> dict[str, str]:
        found = plain(settings)
        return found | {
            "listeners": f"{found['listeners']},NAMED://{address}",
            "advertised.listeners": f"{found['advertised.listeners']},NAMED://{address}",
            "listener.security.protocol.map": f"{found['listener.security.protocol.map']},NAMED:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.named.plain.sasl.jaas.config": (
                f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka, "properties", with_authorizer)
        with Platform.on_free_ports(tmp_path_factory.mktemp("guarded"), services=()) as broker:
            grant(broker, until)
            yield broker, address


def grant(broker: Platform, until: Callable[..., Any]) -> None:
    """Grant what the services need, and the producer its topic."""
    wanted = [(service, each) for service in SERVICES for each in permissions(service)]
    wanted.append((PRODUCER, Permission(PRODUCER, "topic", TOPIC, ("Write",))))
    installing = ("Create", "Describe", "DescribeConfigs")
    wanted.append((INSTALLER, Permission(INSTALLER, "topic", "headrace.", installing, prefixed=True)))
    wanted.append((INSTALLER, Permission(INSTALLER, "topic", INSTALLATION_CLAIMED.name, ("Read", "Write"))))
    made = [rule for who, each in wanted for rule in rules(who, each)]
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    assert not admin.create_acls(made)["failed"]
    # The controller has them; they are in force once the broker has them too.
    until("the permissions are in force", lambda: len(admin.describe_acls(EVERY_RULE)[0]) == len(set(made)))
    admin.close()


EVERY_RULE = ACLFilter(
    principal=None,
    host=None,
    operation=ACLOperation.ANY,
    permission_type=ACLPermissionType.ANY,
    resource_pattern=ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
)


def rules(who: str, wanted: Permission) -> Iterator[ACL]:
    resource = ResourceType[wanted.resource.upper().replace("-", "_")]
    name = {PRODUCERS_TOPIC: TOPIC, EVERY: "*"}.get(wanted.name, wanted.name)
    pattern = ACLResourcePatternType.PREFIXED if wanted.prefixed else ACLResourcePatternType.LITERAL
    names = {"Describe": "DESCRIBE", "DescribeConfigs": "DESCRIBE_CONFIGS"}
    for operation in wanted.operations:
        yield ACL(
            principal=f"User:{who}",
            host="*",
            operation=ACLOperation[names.get(operation, operation.upper())],
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=ResourcePattern(resource, name, pattern),
        )


def kafka_client(address: str, who: str) -> dict[str, Any]:
    return {
        "bootstrap_servers": address,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": who,
        "sasl_plain_password": PASSWORD,
    }


@contextmanager
def services(broker: Platform, address: str, folder: Path) -> Iterator[Mapping[str, str]]:
    """Run all six, each under its own name; yield the addresses of their gRPC servers."""
    from headrace_local.ports import find_free

    addresses = {name: f"127.0.0.1:{port}" for name, port in zip(SERVICES, find_free(len(SERVICES)), strict=True)}
    with ExitStack() as stack:
        for name in SERVICES:
            settings = {
                "KAFKA_BOOTSTRAP_SERVERS": address,
                "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USERNAME": name,
                "KAFKA_SASL_PASSWORD": PASSWORD,
                "STORE_URL": str(folder / "store"),
                "WORK_DIR": str(folder / name),
                "METRICS_ADDRESS": "",
                "REDIS_URL": broker.redis_url,
                "LISTEN_ADDRESS": addresses[name],
                "DRAIN_S": "0",
            }
            environment = os.environ | {f"HEADRACE_{key}": value for key, value in settings.items()}
            environment["OMP_NUM_THREADS"] = "1"
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            command = [sys.executable, "-m", f"headrace_{name.replace('-', '_')}"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
        yield addresses


def produce(address: str, rows: int) -> None:
    """Send points, one of which is broken."""
    generator = random.Random(7)
    producer = KafkaProducer(**kafka_client(address, PRODUCER), acks="all", enable_idempotence=True)
    sent = [producer.send(TOPIC, b"no json")]
    for number in range(rows):
        x = [generator.uniform(-1, 1), generator.uniform(-1, 1)]
        value = json.dumps({"id": f"p{number}", "x": x, "side": int(x[0] > x[1])}).encode()
        sent.append(producer.send(TOPIC, value))
    for future in sent:
        future.get(timeout=60)
    producer.close()


def answered(broker: Platform) -> list[Record]:
    with LogReader(KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers), "test") as reader:
        places = reader.partitions(scored_topic(TOPIC))
        reader.start_at(dict.fromkeys(places))
        return [record for records in reader.read_to(reader.ends(places)) for record in records]


def test_the_listed_permissions_are_enough(
    guarded: tuple[Platform, str], tmp_path: Path, until: Callable[..., Any]
) -> None:
    broker, address = guarded
    with services(broker, address, tmp_path) as addresses, ExitStack() as stack:
        registry = stack.enter_context(RegistryClient(addresses["model-registry"]))
        inference = stack.enter_context(InferenceClient(addresses["inference"]))
        ingestion = stack.enter_context(IngestionClient(addresses["ingestion"]))

        def answers(call: Callable[[], object]) -> bool:
            try:
                call()
            except Exception:
                return False
            return True

        until("the registry answers", lambda: answers(registry.lags))
        registry.apply(PIPELINE, create_topic=True)
        produce(address, ROWS)
        wait_for(registry, TOPIC, Goal.RELEASED, timeout_s=150)
        (release,) = registry.releases(TOPIC)
        until("inference answers", lambda: answers(inference.ready))
        assert wait_served(inference, release.released, timeout_s=60)
        (prediction,) = predict_rows(inference, TOPIC, [{"x": [0.5, -0.5]}])
        (read,) = predict_records(inference, TOPIC, [b'{"x": [0.5, -0.5]}'])
        assert isinstance(read, Prediction)
        assert read.label == prediction.label
        # All that came since the pipeline was applied, the broken one too.
        until("each record is answered", lambda: len(answered(broker)) >= ROWS + 1)
        assert len(answered(broker)) == ROWS + 1
        lineage = until("the prediction is found", lambda: answers(lambda: registry.lineage(prediction.prediction_id)))
        assert lineage
        # A letter is found, replayed and rejected once more; a pushed batch is taken; a dataset is frozen on command.
        (letter,) = ingestion.dead_letters(TOPIC)
        assert letter.rule == "json"
        (replayed,) = ingestion.replay(TOPIC)
        assert replayed.outcome == messages.REPLAY_OUTCOME_REJECTED
        assert [fate.pipeline for fate in registry.record_fates(TOPIC, 0, 0)] == [TOPIC]
        stub = IngestionServiceStub(ingestion._channel)
        pushed = [
            json.dumps({"id": f"q{number}", "x": [0.1, 0.2], "side": number % 2}).encode() for number in range(40)
        ]
        stub.Push(messages.PushRequest(pipeline=TOPIC, batch_id="one", records=pushed), timeout=60)
        # A freeze takes what is clean by then; these are on their way through three topics.
        until("they are clean", lambda: next(registry.watch(TOPIC, timeout_s=60)).filling.rows == len(pushed))
        assert freeze(registry, TOPIC, timeout_s=60)
        assert {lag.group for lag in registry.lags()} >= {f"ingestion.{TOPIC}", f"preprocessing.{TOPIC}", "registry"}
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in SERVICES}
    refused = {name: [line for line in log.splitlines() if "uthoriz" in line] for name, log in logs.items()}
    assert refused == {name: [] for name in SERVICES}


def test_a_producer_may_write_to_its_own_topic_alone(guarded: tuple[Platform, str]) -> None:
    _, address = guarded
    producer = KafkaProducer(**kafka_client(address, PRODUCER), max_block_ms=5_000)
    with pytest.raises(TopicAuthorizationFailedError):
        producer.send("headrace.model.released.v1", b"mine").get(timeout=30)
    producer.close()


def test_the_installer_makes_topics(guarded: tuple[Platform, str]) -> None:
    _, address = guarded
    settings = KafkaSettings(
        kafka_bootstrap_servers=address,
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="PLAIN",
        kafka_sasl_username=INSTALLER,
        kafka_sasl_password=PASSWORD,
    )
    plan = TopicPlan(topics={**TopicPlan.embedded().topics, "headrace.test.v1": PlannedTopic(partitions=1)})
    assert list(provision(settings, plan, "shop/blue")) == ["headrace.test.v1: made with 1 partitions"]
    with pytest.raises(FailedPrecondition, match="belong to the installation 'shop/blue', and this is 'shop/green'"):
        list(provision(settings, plan, "shop/green"))
