"""The embedded platform: what starts, what it answers, what it says when it cannot start, and what it leaves."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import redis
from headrace_local import ahead, ports
from headrace_local.errors import AlreadyRunning, NotRunning, PortBusy, StartFailed
from headrace_local.jars import jar_cache
from headrace_local.kafka import DATA, EmbeddedKafka
from headrace_local.launcher import Platform
from headrace_local.processes import MARK
from headrace_runtime.services import ServiceShape
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
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


def pid_of(platform: Platform, name: str) -> int:
    return next(process.pid for process in platform.status() if process.name == name)


def exchange(bootstrap_servers: str, topic: str) -> bytes:
    """Make a topic, send one record through it and return what comes out."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    admin.create_topics({topic: {"num_partitions": 1}}, wait_for_metadata=True)
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    producer.send(topic, b"water").get(timeout=60)
    producer.close()
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        consumer_timeout_ms=60_000,
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


def test_a_killed_kafka_comes_back_with_its_records(broker: Platform, until: Callable[..., None]) -> None:
    topic = "test-kill"
    assert exchange(broker.bootstrap_servers, topic) == b"water"
    before = pid_of(broker, "kafka")
    os.kill(before, signal.SIGKILL)
    until(lambda: pid_of(broker, "kafka") not in {0, before})
    host, port = broker.bootstrap_servers.split(":")
    until(lambda: not ports.is_free(host, int(port)))
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, consumer_timeout_ms=60_000)
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek_to_beginning()
    assert next(consumer).value == b"water"
    consumer.close()


def test_kafka_loads_committed_offsets_in_steps_that_end_before_it_is_admitted_again(broker: Platform) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        told = admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1")], config_filter="all")
    finally:
        admin.close()
    [settings] = told["broker"].values()
    # With the default of 5 MiB, a killed broker told of old offsets once in three starts, with 110,000 of them to load.
    assert int(settings["offsets.load.buffer.size"]["value"]) <= 64 * 1024


def test_a_broker_starts_from_what_was_loaded_ahead(broker: Platform) -> None:
    class_path = jar_cache(broker.settings).class_path(print)
    assert ahead.file_of(class_path).is_file(), "make setup makes it"
    process = psutil.Process(broker.pid("kafka"))
    assert set(ahead.flags(class_path)) <= set(process.cmdline())
    # Java passes over a file that does not fit: it would not be mapped, and the log would say why.
    assert str(ahead.file_of(class_path)) in {mapped.path for mapped in process.memory_maps()}
    assert "[aot" not in broker.log_path("kafka").read_text()


def test_what_was_loaded_ahead_is_passed_over_where_it_does_not_fit(
    platform_home: Path, broker: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_home.mkdir()
    broken = platform_home / "broken.aot"
    broken.write_bytes(b"of another Java")
    monkeypatch.setattr(ahead, "file_of", lambda _: broken)
    class_path = jar_cache(broker.settings).class_path(print)
    settings = broker.settings.model_copy(update={"home": platform_home})
    EmbeddedKafka(settings, class_path, ahead.flags(class_path)).prepare()
    assert (platform_home / DATA / "meta.properties").is_file()
    broken.unlink()
    assert ahead.flags(class_path) == ()


def test_the_home_of_a_platform_is_its_owners_alone(broker: Platform) -> None:
    assert stat.S_IMODE(broker.home.stat().st_mode) == 0o700


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


def test_a_service_that_keeps_dying_fails_the_start_with_its_log(broker: Platform, platform_home: Path) -> None:
    shape = ServiceShape(name="does-not-exist", metrics_offset=0)
    broken = Platform.on_free_ports(
        platform_home, services=(shape,), kafka_bootstrap_servers=broker.bootstrap_servers
    )  # and a cache of its own, which is to end as well
    with pytest.raises(StartFailed, match="No module named headrace_does_not_exist"):
        broken.start()
    assert marked(platform_home) == []
    with pytest.raises(NotRunning):
        broken.status()


def test_stop_leaves_no_process_and_keeps_the_state(platform_home: Path) -> None:
    kept = Platform.on_free_ports(platform_home, services=())
    with kept:
        assert len(marked(platform_home)) == 3
        assert exchange(kept.bootstrap_servers, "kept") == b"water"
    assert marked(platform_home) == []
    with kept:
        assert "kept" in topics(kept)


def test_an_external_broker_and_cache_are_used_and_nothing_is_started(broker: Platform, platform_home: Path) -> None:
    (platform_home / "kafka").mkdir(parents=True)
    (platform_home / "notes.txt").write_text("mine")
    guest = Platform.on_free_ports(
        platform_home, services=(), kafka_bootstrap_servers=broker.bootstrap_servers, redis_url=broker.redis_url
    )
    guest.start(fresh=True)
    assert guest.status() == []
    assert (guest.bootstrap_servers, guest.redis_url) == (broker.bootstrap_servers, broker.redis_url)
    # Fresh means: without what earlier platforms wrote. What somebody else put there stays.
    assert sorted(path.name for path in platform_home.iterdir() if path.name in {"kafka", "notes.txt"}) == ["notes.txt"]
    guest.stop()
    assert marked(platform_home) == []


LAUNCH = """
import sys, time
from pathlib import Path
from headrace_local.jars import jar_cache
from headrace_local.kafka import DATA, EmbeddedKafka
from headrace_local.launcher import Platform
platform = Platform.on_free_ports(Path(sys.argv[1]), services=())
if sys.argv[2] == "detached":
    platform = Platform(platform.settings, services=())
platform.start(lambda line: print(line, flush=True))
time.sleep(600)
"""


def launch(home: Path, how: str, until: str, environment: Mapping[str, str] = os.environ) -> subprocess.Popen[str]:
    """Start a platform from a process of its own and return that process once it has said a line."""
    command = [sys.executable, "-c", LAUNCH, str(home), how]
    launcher = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    assert any(line.startswith(until) for line in launcher.stdout)
    return launcher


def end(launcher: subprocess.Popen[str]) -> None:
    launcher.kill()
    launcher.communicate()


def test_an_attached_platform_needs_no_java_and_ends_with_its_killed_launcher(
    tmp_path: Path, until: Callable[..., None]
) -> None:
    # A path that no configuration file would take as it is, and too long for a unix socket.
    home = tmp_path / "50% off; #1, été" / ("deep " * 20)
    # Neither Java nor any other program is on this path, and the network is out of reach: the jars are cached by now.
    bare = {"HOME": str(Path.home()), "PATH": "/nonexistent", "HTTPS_PROXY": "http://127.0.0.1:9"}
    launcher = launch(home, "attached", "ready in", bare)
    assert {process.state for process in Platform.find(home).status()} == {"running"}
    end(launcher)
    until(lambda: marked(home) == [])


def test_down_cleans_up_after_a_launcher_and_a_supervisor_killed_while_they_start(
    platform_home: Path, until: Callable[..., None]
) -> None:
    end(launch(platform_home, "detached", "valkey is ready"))
    running = Platform.find(platform_home)
    assert {process.name for process in running.status()} == {"kafka", "valkey"}
    supervisor = next(process for process in marked(platform_home) if "headrace_local.host" in process.cmdline())
    supervisor.kill()
    until(lambda: not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE)
    assert {process.name() for process in marked(platform_home)} == {"java", "valkey-server"}
    Platform(running.settings).stop()
    assert marked(platform_home) == []
