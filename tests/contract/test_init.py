"""`headrace init` on a real broker: it reads a topic's newest records, and leaves no trace there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from headrace_client.sampling import newest_records
from headrace_data.spec import load_pipeline
from headrace_runtime.kafka import Admin
from headrace_runtime.settings import KafkaSettings
from kafka import KafkaAdminClient, KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract

Init = Callable[..., "subprocess.CompletedProcess[str]"]
SCHEMA_LINE = "# yaml-language-server: $schema=pipeline.schema.json"


@pytest.fixture(scope="module")
def filled(broker: Platform) -> str:
    """A topic of three partitions: five records in the first, 40 in the second, none in the third."""
    settings = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)
    with Admin(settings, "test") as admin:
        admin.ensure_topic("shop.orders", 3)
        admin.ensure_topic("shop.empty", 2)
        admin.ensure_topic("shop.texts", 1)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for number in range(45):
        order = {"id": f"o{number}", "price": number / 4, "paid": ("card", "cash")[number % 2]}
        producer.send("shop.orders", json.dumps(order).encode(), partition=int(number >= 5))
    producer.send("shop.texts", b"a,b,c")
    producer.flush()
    producer.close()
    return "shop.orders"


@pytest.fixture
def init(broker: Platform, tmp_path: Path) -> Init:
    def run(*arguments: str, brokers: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "headrace"), "init", *arguments]
        environment = os.environ | {"HEADRACE_HOME": str(broker.home if brokers is None else tmp_path / "home")}
        if brokers:
            environment["HEADRACE_KAFKA_BOOTSTRAP_SERVERS"] = brokers
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=120
        )

    return run


def test_a_draft_is_written_with_its_schema_beside_it(init: Init, filled: str, tmp_path: Path) -> None:
    done = init("--topic", filled, "--sample", "30", "--output", "drafts/orders.yaml")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "drafts" / "orders.yaml").read_text()
    assert text.splitlines()[0] == SCHEMA_LINE
    assert json.loads((tmp_path / "drafts" / "pipeline.schema.json").read_bytes())["title"] == "Pipeline"
    pipeline = load_pipeline(text)
    assert (pipeline.name, pipeline.stream.label.name) == ("shop-orders", "paid")
    assert "30 records: label 'paid'" in done.stderr
    again = init("--topic", filled, "--output", "drafts/orders.yaml")
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert init("--topic", filled, "--output", "drafts/orders.yaml", "--force").returncode == 0


def test_a_draft_goes_to_standard_output_and_names_the_label_asked_for(
    init: Init, filled: str, broker: Platform
) -> None:
    done = init("--topic", filled, "--label", "price", brokers=broker.bootstrap_servers)
    assert done.returncode == 0, done.stderr
    pipeline = load_pipeline(done.stdout)
    assert (pipeline.stream.label.name, pipeline.train.task) == ("price", "regression")


def test_the_newest_records_are_read_without_a_group(
    filled: str, broker: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    groups = {group["group_id"] for group in admin.list_groups()}
    values = [json.loads(value or b"")["id"] for value in newest_records(filled, 12)]
    assert sorted(values) == sorted([*(f"o{number}" for number in range(5)), *(f"o{n}" for n in range(38, 45))])
    assert len(newest_records(filled, 1000)) == 45
    assert {group["group_id"] for group in admin.list_groups()} <= groups
    admin.close()


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("shop.order", "there is no topic 'shop.order'; did you mean 'shop.orders'?"),
        ("not a topic!", "there is no topic 'not a topic!'"),
        ("shop.empty", "expected records in topic 'shop.empty', got none"),
        ("shop.texts", "expected JSON objects in topic 'shop.texts', got b'a,b,c'"),
    ],
)
@pytest.mark.usefixtures("filled")
def test_a_topic_that_cannot_be_used_is_named(init: Init, topic: str, message: str) -> None:
    done = init("--topic", topic)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stdout == ""


def test_without_a_broker_the_address_is_named(init: Init) -> None:
    done = init("--topic", "orders", brokers="127.0.0.1:1")
    assert done.returncode == 1
    assert "cannot reach Kafka at 127.0.0.1:1" in done.stderr
