"""docs/producers.md: its snippets send records that fit the example's schema."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from headrace_data.records import RecordChecker
from headrace_data.spec import load_pipeline
from headrace_runtime.access import commands, permissions
from headrace_runtime.kafka import Admin, LogReader
from headrace_runtime.services import SERVICES
from headrace_runtime.settings import KafkaSettings

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "producers.md").read_text()
SHOWN = "127.0.0.1:9092"


@pytest.fixture
def topic(broker: Platform) -> str:
    name = f"digits-{uuid.uuid4().hex[:8]}"
    with Admin(settings(broker), "test") as admin:
        admin.ensure_topic(name, 1)
    return name


def settings(broker: Platform) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)


def snippet(language: str, containing: str, broker: Platform, topic: str) -> str:
    """Return the one snippet of a language with such a text in it, for this broker and topic."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (text,) = [text for text in found if containing in text]
    assert SHOWN in text
    text = text.replace(SHOWN, broker.bootstrap_servers)
    return str(text.replace('"digits"', f'"{topic}"').replace("-t digits", f"-t {topic}"))


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def check_arrived(broker: Platform, topic: str, name: str, told: str = "json") -> None:
    """Check that one record came, with its key, and that the example's schema takes it in this format."""
    with LogReader(settings(broker), "test") as reader:
        places = reader.partitions(topic)
        reader.start_at(dict.fromkeys(places))
        (record,) = [record for records in reader.read_to(reader.ends(places)) for record in records]
    document = (ROOT / "examples" / "digits" / "pipeline.yaml").read_text()
    pipeline = load_pipeline(document.replace("  format: json\n", f"  format: {told}\n"))
    checked = RecordChecker(pipeline.stream).check([record.value], [0], [0], None)
    assert (record.key, checked.rejected) == (name.encode(), [])
    assert checked.batch.column("id").to_pylist() == [name]


def test_kafka_python(broker: Platform, topic: str) -> None:
    run(sys.executable, "-c", snippet("python", "# kafka-python", broker, topic))
    check_arrived(broker, topic, "scan-1")


def test_csv(broker: Platform, topic: str) -> None:
    run(sys.executable, "-c", snippet("python", "# CSV with kafka-python", broker, topic))
    check_arrived(broker, topic, "scan-6", "csv")


def test_the_schema_on_the_page_is_read() -> None:
    (told,) = re.findall(r"```yaml\n(stream:\n  topic: digits\n  format:\n.*?)```", PAGE, re.DOTALL)
    document = (ROOT / "examples" / "digits" / "pipeline.yaml").read_text()
    head, _, tail = document.partition("stream:\n")
    pipeline = load_pipeline(head + told + "  key: id\n" + tail[tail.index("  schema:") :])
    value = b"\x0a\1a\x12\1a\x1a\x80\4" + struct.pack("<64d", *range(64)) + b"\x20\3"
    checked = RecordChecker(pipeline.stream).check([value], [0], [0], None)
    assert [(row["id"], row["digit"], row["pixels"][9]) for row in checked.batch.to_pylist()] == [("a", 3, 9)]


def test_confluent_kafka(broker: Platform, topic: str, foreign_python: str) -> None:
    run(foreign_python, "-c", snippet("python", "# confluent-kafka\n", broker, topic))
    check_arrived(broker, topic, "scan-2")


def test_java(broker: Platform, topic: str, tmp_path: Path) -> None:
    java, compiler = shutil.which("java"), shutil.which("javac")
    if java is None or compiler is None:
        pytest.skip("there is no Java compiler here")
    from headrace_local.jars import jar_cache

    class_path = jar_cache(broker.settings).class_path(print)
    source = tmp_path / "Send.java"
    source.write_text(snippet("java", "KafkaProducer", broker, topic))
    run(compiler, "-cp", class_path, "-d", str(tmp_path), str(source))
    run(java, "-cp", f"{class_path}:{tmp_path}", "Send")
    check_arrived(broker, topic, "scan-3")


def test_kcat(broker: Platform, topic: str) -> None:
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not installed")
    run("sh", "-e", "-c", snippet("sh", "kcat", broker, topic))
    check_arrived(broker, topic, "scan-4")


def test_every_permission_has_its_command() -> None:
    made = commands("broker:9092", ["digits", "letters"], "User:headrace-{service}")
    assert (
        "kafka-acls.sh --bootstrap-server broker:9092 --add --allow-principal 'User:headrace-ingestion' "
        "--operation Read --topic 'letters'"
    ) in made
    assert all(any(f"User:headrace-{service}" in command for command in made) for service in SERVICES)
    assert sum("--resource-pattern-type prefixed" in command for command in made) == sum(
        permission.prefixed for service in SERVICES for permission in permissions(service)
    )
