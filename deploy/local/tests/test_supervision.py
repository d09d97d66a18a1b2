"""The supervisor's configuration, its socket, and how a process gets its command line."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from pathlib import Path

import headrace_local.execute
from headrace_local.processes import BROKER_GROUP, SERVICE_GROUP, Process
from headrace_local.supervision import SOCKET_LIMIT, Supervisor, configuration, tail

PROCESSES = (
    Process("kafka", BROKER_GROUP, ("java",)),
    Process("ingestion", SERVICE_GROUP, ("python",)),
    Process("trainer", SERVICE_GROUP, ("python",)),
)


def test_services_wait_for_the_broker_and_stop_before_it() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(configuration(PROCESSES))
    assert parser["program:kafka"]["autostart"] == "true"
    assert parser["program:trainer"]["autostart"] == "false"
    assert parser["group:services"]["programs"] == "ingestion,trainer"
    # The supervisor stops the group with the highest priority first.
    assert int(parser["group:services"]["priority"]) > int(parser["group:broker"]["priority"])


def test_a_deep_home_gets_a_short_socket(tmp_path: Path) -> None:
    near = Supervisor(Path("/tmp/home"))  # noqa: S108 - a path only
    deep = Supervisor(tmp_path / ("deep" * 40))
    assert near.socket == Path("/tmp/home/run/supervisor.sock")  # noqa: S108
    assert len(os.fsencode(deep.socket)) <= SOCKET_LIMIT
    assert deep.socket != Supervisor(tmp_path / ("deep" * 41)).socket


def test_a_process_gets_exactly_its_command_and_environment(tmp_path: Path) -> None:
    report = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    awkward = ("", 'a "quoted" one', "50% # off; really")
    process = {
        "command": [sys.executable, "-c", report, *awkward],
        "environment": {"HEADRACE_STORE_URL": "a folder; 100% #1"},
        "unset": ["HEADRACE_KAFKA_SASL_PASSWORD"],
    }
    file = tmp_path / "processes.json"
    file.write_text(json.dumps({"one": process}))
    done = subprocess.run(
        [sys.executable, "-S", headrace_local.execute.__file__, str(file), "one"],
        env={"KEPT": "yes", "HEADRACE_KAFKA_SASL_PASSWORD": "secret"},
        capture_output=True,
        check=True,
    )
    arguments, environment = json.loads(done.stdout)
    assert arguments == list(awkward)
    assert environment["HEADRACE_STORE_URL"] == "a folder; 100% #1"
    assert environment["KEPT"] == "yes"
    assert "HEADRACE_KAFKA_SASL_PASSWORD" not in environment


def test_tail_returns_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert tail(log) == ""
    log.write_text("".join(f"{number}\n" for number in range(100)))
    assert tail(log, 2) == "98\n99"
