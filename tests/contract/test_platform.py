"""The embedded platform: what starts, what it answers, what it says when it cannot start, and what it leaves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import redis
from headrace_local import ports
from headrace_local.errors import AlreadyRunning, NotRunning, PortBusy, StartFailed
from headrace_local.launcher import Platform
from headrace_local.processes import MARK, ServiceShape
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

pytestmark = pytest.mark.contract


def marked(home: Path) -> list[psutil.Process]:
    """Every process that works in home, whether its platform still knows of it or not."""
    found = []
    for process in psutil.process_iter():
        try:
            if MARK in process.environ() and process.cwd().startswith(str(home)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.05)


def pid_of(platform: Platform, name: str) -> int:
    return next(process.pid for process in platform.status() if process.name == name)


def exchange(bootstrap_servers: str, topic: str) -> bytes:
    """Make a topic, send one record through it and return what comes out."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    admin.create_topics({topic: {"num_partitions": 1}}, wait_for_metadata=True)
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    producer.send(topic, b"water").get(timeout=10)
    producer.close()
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        consumer_timeout_ms=10_000,
    )
    consumer.assign([TopicPartition(topic, 0)])
    record = next(consumer)
    consumer.close()
    return bytes(record.value)


def test_kafka_and_valkey_answer(broker: Platform) -> None:
    assert exchange(broker.bootstrap_servers, "test-platform") == b"water"
    with redis.Redis.from_url(broker.redis_url) as cache:
        cache.set("wheel", "turns")
        assert cache.get("wheel") == b"turns"
        assert cache.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
    assert {process.name: process.state for process in broker.status()} == {"kafka": "running", "valkey": "running"}


def test_listens_on_the_loopback_only(broker: Platform) -> None:
    tree = [psutil.Process(process.pid) for process in broker.status()]
    hosts = {
        connection.laddr.ip
        for process in tree
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert hosts <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_topics_are_never_made_by_themselves(broker: Platform) -> None:
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers, max_block_ms=500, allow_auto_create_topics=True
    )
    try:
        with pytest.raises(KafkaTimeoutError):
            producer.send("nobody-made-me", b"x")
    finally:
        producer.close()
    assert "nobody-made-me" not in topics(broker)


def topics(platform: Platform) -> set[str]:
    admin = KafkaAdminClient(bootstrap_servers=platform.bootstrap_servers)
    try:
        return set(admin.list_topics())
    finally:
        admin.close()


def test_a_killed_kafka_comes_back_with_its_records(broker: Platform) -> None:
    topic = "test-kill"
    assert exchange(broker.bootstrap_servers, topic) == b"water"
    before = pid_of(broker, "kafka")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: pid_of(broker, "kafka") not in {0, before})
    host, port = broker.bootstrap_servers.split(":")
    wait_until(lambda: not ports.is_free(host, int(port)))
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, consumer_timeout_ms=20_000)
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek_to_beginning()
    assert next(consumer).value == b"water"
    consumer.close()


def test_a_second_platform_in_the_same_home_is_refused(broker: Platform) -> None:
    second = Platform.on_free_ports(broker.home, services=())
    with pytest.raises(AlreadyRunning, match="headrace down"):
        second.start()
    assert Platform.find(broker.home).bootstrap_servers == broker.bootstrap_servers


def test_a_busy_port_names_port_holder_and_setting(platform_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        busy = Platform.on_free_ports(platform_home, services=(), kafka_address=address)
        with pytest.raises(PortBusy) as caught:
            busy.start()
    message = str(caught.value)
    assert address in message
    assert f"pid {os.getpid()}" in message
    assert "HEADRACE_KAFKA_ADDRESS" in message
    assert marked(platform_home) == []


def test_a_service_that_keeps_dying_fails_the_start_with_its_log(platform_home: Path) -> None:
    broken = Platform.on_free_ports(platform_home, services=(ServiceShape("does-not-exist", 0),))
    with pytest.raises(StartFailed, match="No module named headrace_does_not_exist"):
        broken.start()
    assert marked(platform_home) == []
    with pytest.raises(NotRunning):
        broken.status()


def test_stop_leaves_no_process_and_state_is_kept_until_fresh(platform_home: Path) -> None:
    first = Platform.on_free_ports(platform_home, services=())
    with first:
        assert len(marked(platform_home)) == 3
        assert exchange(first.bootstrap_servers, "kept") == b"water"
    assert marked(platform_home) == []
    assert topics_after(first, fresh=False) >= {"kept"}
    assert "kept" not in topics_after(first, fresh=True)


def topics_after(platform: Platform, **start: Any) -> set[str]:
    """Start, list the topics, stop."""
    platform.start(**start)
    try:
        return topics(platform)
    finally:
        platform.stop()


LAUNCH = """
import sys, time
from pathlib import Path
from headrace_local.launcher import Platform
platform = Platform.on_free_ports(Path(sys.argv[1]), services=())
if sys.argv[2] == "detached":
    platform = Platform(platform.settings, services=())
platform.start()
print("started", flush=True)
time.sleep(600)
"""


def launch(home: Path, how: str) -> subprocess.Popen[str]:
    """Start a platform from a process of its own and return that process once it is up."""
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCH, str(home), how], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "started\n"
    return launcher


def end(launcher: subprocess.Popen[str]) -> None:
    launcher.kill()
    launcher.communicate()


def test_an_attached_platform_ends_with_its_killed_launcher(platform_home: Path) -> None:
    launcher = launch(platform_home, "attached")
    assert marked(platform_home)
    end(launcher)
    wait_until(lambda: marked(platform_home) == [])


def test_down_cleans_up_after_a_killed_launcher_and_a_killed_supervisor(platform_home: Path) -> None:
    launcher = launch(platform_home, "detached")
    end(launcher)
    running = Platform.find(platform_home)
    assert {process.state for process in running.status()} == {"running"}
    supervisor = next(process for process in marked(platform_home) if "headrace_local.host" in process.cmdline())
    supervisor.kill()
    wait_until(lambda: not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE)
    assert marked(platform_home)
    Platform(running.settings).stop()
    assert marked(platform_home) == []


def test_needs_neither_java_nor_network_once_the_jars_are_cached(
    platform_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    said: list[str] = []
    platform = Platform.on_free_ports(platform_home, services=())
    platform.start(said.append)
    platform.stop()
    assert not [line for line in said if "fetching" in line]
    assert said[-1].startswith("ready in ")
