"""`headrace topic` on a real broker: what a stranger does before there is any pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from headrace_client.cli.app import app
from kafka import KafkaAdminClient, KafkaProducer
from typer.testing import CliRunner, Result

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract

Topic = Callable[..., Result]


@pytest.fixture
def topic(broker: Platform, tmp_path: Path) -> Topic:
    def run(*arguments: str, brokers: str | None = None) -> Result:
        home = str(broker.home if brokers is None else tmp_path)
        environment = {"HEADRACE_HOME": home, "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": brokers}
        return CliRunner().invoke(app, ["topic", *arguments], env=environment)

    return run


def test_a_topic_from_nothing_to_its_first_records(topic: Topic, broker: Platform) -> None:
    name = "garden.beds"
    made = topic("create", name, "--partitions", "2", "--config", "retention.ms=3600000", "--json")
    assert made.exit_code == 0, made.stderr
    view = json.loads(made.stdout)
    assert [each["partition"] for each in view["partitions"]] == [0, 1]
    assert view["config"] == {"retention.ms": "3600000"}
    assert json.loads(topic("describe", name, "--json").stdout) == view
    assert topic("sample", name, "--json").stdout == "[]\n"
    assert f"topic '{name}' holds no record" in topic("sample", name).stderr

    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for number in range(9):
        producer.send(name, b'{"bed": %d}' % number, key=b"k", headers=[("h", b"v")], partition=number % 2)
    producer.send(name, b"\xff\x00", partition=1)
    producer.send(name, None, key=b"gone", partition=1)
    producer.flush()
    producer.close()

    listed = {each["topic"]: each for each in json.loads(topic("list", "--json").stdout)}
    assert listed[name] == {"topic": name, "partitions": 2, "messages": 11}
    assert not any(each.startswith(("headrace.", "__")) for each in listed)
    every = {each["topic"] for each in json.loads(topic("list", "--all", "--json").stdout)}
    assert {name, "headrace.registry.log.v1"} <= every
    ends = [each["end_offset"] for each in json.loads(topic("describe", name, "--json").stdout)["partitions"]]
    assert ends == [5, 6]

    newest = json.loads(topic("sample", name, "-n", "4", "--json").stdout)
    places = [(each["partition"], each["offset"], each["value"], each["value_base64"], each["key"]) for each in newest]
    assert sorted(places, key=str) == [
        (0, 3, '{"bed": 6}', None, "k"),
        (0, 4, '{"bed": 8}', None, "k"),
        (1, 4, None, "/wA=", None),
        (1, 5, None, None, "gone"),
    ]
    assert newest[0]["headers"] == [{"name": "h", "value": "v", "value_base64": None}]
    shown = topic("sample", name).stdout
    assert '{"bed": 8}' in shown
    assert "\x00" not in shown


def test_no_group_is_left_behind(topic: Topic, broker: Platform) -> None:
    assert topic("create", "garden.paths").exit_code == 0
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    before = {group["group_id"] for group in admin.list_groups()}
    assert topic("sample", "garden.paths").exit_code == 0
    assert {group["group_id"] for group in admin.list_groups()} <= before
    admin.close()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("create", "garden.walls"), 1, "topic 'garden.walls' exists already, with 3 partitions"),
        (("create", "not a topic!"), 1, "topic 'not a topic!' cannot be created: "),
        (("create", "many", "--replication", "3"), 1, "topic 'many' cannot be created: "),
        (("create", "set", "--config", "retention.ms=soon"), 1, "topic 'set' cannot be created: "),
        (("create", "set", "--config", "retention.ms"), 2, "expected KEY=VALUE"),
        (("create", "headrace.own"), 1, "names that begin with headrace. or __ are no producers'"),
        (("create", "none", "--partitions", "0"), 2, "--partitions"),
        (("describe", "garden.wall"), 1, "there is no topic 'garden.wall'; did you mean 'garden.walls'?"),
        (("sample", "garden.wall"), 1, "there is no topic 'garden.wall'; did you mean 'garden.walls'?"),
    ],
)
def test_what_cannot_be_done_is_said(topic: Topic, arguments: tuple[str, ...], code: int, message: str) -> None:
    topic("create", "garden.walls")
    done = topic(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize("arguments", [("list",), ("sample", "t")])
def test_without_a_broker_the_address_is_named(topic: Topic, arguments: tuple[str, ...]) -> None:
    done = topic(*arguments, brokers="127.0.0.1:1")
    assert done.exit_code == 1
    assert "cannot reach Kafka at 127.0.0.1:1" in done.stderr
