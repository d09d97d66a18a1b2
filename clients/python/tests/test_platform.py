"""`up`, `down` and `logs` around the embedded platform; the platform itself is tested beside its code."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest
from headrace_client.cli.logs import Tail, json_line, plain_line
from headrace_client.cli.platform import without_secret


@pytest.fixture
def _without_local(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "headrace_local"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "headrace_local", None)


@pytest.mark.usefixtures("_without_local")
@pytest.mark.parametrize("command", ["up", "down", "logs"])
def test_without_the_extra_it_is_said_how_to_get_it(headrace, command):
    result = headrace(command)
    assert result.exit_code == 1
    assert "run `make setup` in a checkout" in result.stderr


@pytest.mark.usefixtures("_without_local")
def test_status_needs_no_extra(headrace, registry, inference):
    assert headrace("status").exit_code == 0


def test_down_when_nothing_runs(headrace, tmp_path):
    result = headrace("down")
    assert result.exit_code == 0, result.output
    assert f"no platform runs in {tmp_path / 'home'}" in result.stdout


def test_up_on_a_wrong_setting(headrace, monkeypatch):
    monkeypatch.setenv("HEADRACE_KAFKA_ADDRESS", "nowhere")
    result = headrace("up")
    assert result.exit_code == 2
    assert "HEADRACE_KAFKA_ADDRESS" in result.stderr


def test_up_on_a_busy_port(headrace, monkeypatch):
    """An external Kafka and cache leave only the services' own ports to check, and one of them is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        monkeypatch.setenv("HEADRACE_REDIS_URL", "redis://127.0.0.1:1/0")
        monkeypatch.setenv("HEADRACE_REGISTRY_ADDRESS", f"127.0.0.1:{port}")
        result = headrace("up")
    assert result.exit_code == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert "HEADRACE_REGISTRY_ADDRESS" in result.stderr


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "home" / "logs"
    folder.mkdir(parents=True)
    (folder / "trainer.log").write_text("one\ntwo\nthree\n")
    (folder / "kafka.log").write_text("broker\n")
    return folder


def test_logs_of_all(headrace, logs):
    result = headrace("logs", "-n", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["kafka   | broker", "trainer | two", "trainer | three"]


def test_what_a_log_quotes_cannot_steer_the_terminal():
    form = plain_line([Path("trainer.log")], named=False)
    entry = {
        "time": "2026-05-17T14:30:00.000",
        "level": "INFO",
        "message": "label \x1b]0;title\x07",
        "exception": "a\n\tb",
    }
    assert form("trainer", json.dumps(entry)).splitlines() == [
        r"2026-05-17 14:30:00.000 INFO    label \x1b]0;title\x07",
        "a",
        "        b",
    ]


def test_logs_of_one(headrace, logs):
    assert headrace("logs", "trainer").stdout.splitlines() == ["one", "two", "three"]


def test_logs_of_nobody(headrace, logs):
    result = headrace("logs", "trianer")
    assert result.exit_code == 1
    assert "trianer" in result.stderr
    assert "trainer" in result.stderr


def test_no_logs_yet(headrace):
    result = headrace("logs")
    assert result.exit_code == 1
    assert "has `headrace up` run here?" in result.stderr


def test_a_tail_follows_what_is_written_and_rotated(logs):
    path = logs / "trainer.log"
    tail = Tail(path, lambda _, line: f"> {line}")
    assert tail.last(1) == ["> three"]
    assert tail.more() == []
    with path.open("a") as handle:
        handle.write("fo")
        handle.flush()
        assert tail.more() == [], "a line is shown when it is complete"
        handle.write("ur\nfive\n")
    assert tail.more() == ["> four", "> five"]
    path.rename(logs / "trainer.log.1")
    assert tail.more() == []
    path.write_text("six\n")
    assert tail.more() == ["> six"]
    os.truncate(path, 0)
    assert tail.more() == []
    path.write_text("7\n")
    assert tail.more() == ["> 7"]


def test_logs_as_json_keep_the_services_own_fields() -> None:
    assert json.loads(json_line("trainer", '{"level": "INFO", "message": "trainer is up"}')) == {
        "service": "trainer",
        "level": "INFO",
        "message": "trainer is up",
    }
    assert json.loads(json_line("kafka", "plain text")) == {"service": "kafka", "message": "plain text"}


def test_logs_for_people_are_no_json(headrace, logs) -> None:
    line = {"time": "2026-05-17T14:30:01.250", "level": "INFO", "logger": "x", "message": "trainer is up"}
    failed = line | {"level": "ERROR", "message": "it failed", "exception": "Traceback\nValueError: no"}
    (logs / "trainer.log").write_text("".join(f"{each}\n" for each in (json.dumps(line), json.dumps(failed), "[1]")))
    assert headrace("logs", "trainer").stdout.splitlines() == [
        "2026-05-17 14:30:01.250 INFO    trainer is up",
        "2026-05-17 14:30:01.250 ERROR   it failed",
        "Traceback",
        "ValueError: no",
        "[1]",
    ]


def test_an_address_is_shown_without_its_password() -> None:
    assert without_secret("redis://user:secret@cache:6379/0") == "redis://user:***@cache:6379/0"
    assert without_secret("redis://cache:6379/0") == "redis://cache:6379/0"
