"""`python -m headrace_runtime.backup save|restore FOLDER` keeps an installation's topics and objects in a folder.

Saved are all messages of Headrace's own topics, how far its consumer groups have read them, and every object, but no
producers' topic. Take it while the services are stopped: what they write meanwhile may be in it in part. A restore
fills an installation whose topics are empty, before its services start for the first time; ids, versions and releases
are the same there. Kafka is named by HEADRACE_KAFKA_*, the store by HEADRACE_STORE_URL or --store.

In the folder: `topics.json`, one file of JSON lines for each partition, and `objects`.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from headrace_runtime.errors import FailedPrecondition, HeadraceError, InvalidInput
from headrace_runtime.kafka import Admin, LogReader
from headrace_runtime.kafka.producers import best_effort_producer
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.records import Place, Record
from headrace_runtime.settings import KafkaSettings, ServiceSettings, load_settings
from headrace_runtime.topic_plan import PlannedTopic, TopicPlan
from headrace_runtime.topics import INSTALLATION_CLAIMED

NAME = "backup"
BRAND = "headrace."
CONTENTS = "topics.json"
OBJECTS = "objects"
KEPT = ("cleanup.policy", "max.message.bytes", "min.cleanable.dirty.ratio", "retention.bytes", "retention.ms")
"""Settings of a topic that a restore makes it with; the others are the brokers' choice."""
FOLDERS = ("sha256", "runs", "superseded", "forget")
"""Where the object store keeps artifacts, the files of runs, and what is known of what was taken out of it."""
WRITTEN_S = 120.0
AT_ONCE = 1_000
"""Messages that are written before their acknowledgements are looked at."""


def save(settings: KafkaSettings, store: ObjectStore, folder: Path) -> Iterator[str]:
    """Write topics, offsets and objects into an empty folder; yield a line for each topic."""
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder}: expected an empty folder, got one with files")
    folder.mkdir(parents=True, exist_ok=True)
    committed = _committed(settings)
    topics: dict[str, dict[str, Any]] = {}
    with Admin(settings, NAME) as admin:
        for topic in _own_topics(settings):
            config = admin.topic_config(topic)
            kept = {key: config[key] for key in KEPT if key in config}
            topics[topic] = {"partitions": admin.partitions_of(topic), "config": kept}
    offsets: dict[str, list[list[Any]]] = {}
    for topic in topics:
        messages = 0
        for number in range(topics[topic]["partitions"]):
            place, groups = (topic, number), committed.get((topic, number), {})
            found, passed = _save_partition(settings, place, groups, folder)
            messages += found
            for group, count in passed.items():
                offsets.setdefault(group, []).append([*place, count])
        yield f"{topic}: {messages} messages"
    (folder / CONTENTS).write_text(json.dumps({"topics": topics, "offsets": offsets}, indent=1))
    # After the messages: what these name is there.
    yield f"{_copy(store, ObjectStore(str((folder / OBJECTS).absolute())))} objects"


def restore(settings: KafkaSettings, store: ObjectStore, folder: Path) -> Iterator[str]:
    """Fill empty topics and the store from a folder; yield a line for each topic.

    Raises FailedPrecondition, before anything is written, when a topic holds messages or has fewer partitions.
    """
    contents = _contents(folder)
    plan = TopicPlan(topics={name: PlannedTopic(**each) for name, each in contents["topics"].items()})
    with Admin(settings, NAME) as admin:
        admin.ensure_topics(plan)
        for topic, planned in plan.topics.items():
            found = admin.partitions_of(topic)
            if found < planned.partitions:
                raise FailedPrecondition(f"{topic}: expected {planned.partitions} partitions or more, got {found}")
            ends = admin.written_ends([(topic, number) for number in range(found)])
            if any(ends.values()):
                raise FailedPrecondition(
                    f"{topic}: expected an empty topic, got messages: restore before the services start"
                )
    # Before the messages: what these name is there.
    yield f"{_copy(ObjectStore(str((folder / OBJECTS).absolute())), store)} objects"
    for topic, planned in plan.topics.items():
        sent = sum(_write(settings, folder, (topic, number)) for number in range(planned.partitions))
        yield f"{topic}: {sent} messages"
    for group, found in contents["offsets"].items():
        positions = {TopicPartition(topic, number): offset for topic, number, offset in found}
        consumer = KafkaConsumer(group_id=group, enable_auto_commit=False, **settings.kafka_client())
        consumer.assign(list(positions))
        consumer.commit({place: OffsetAndMetadata(offset, "", -1) for place, offset in positions.items()})
        consumer.close(autocommit=False)


def _own_topics(settings: KafkaSettings) -> list[str]:
    admin = KafkaAdminClient(client_id=NAME, **settings.kafka_client())
    try:
        found = {str(name) for name in admin.list_topics()}
    finally:
        admin.close()
    # A claim is about where the topics are.
    return sorted(name for name in found if name.startswith(BRAND) and name != INSTALLATION_CLAIMED.name)


def _committed(settings: KafkaSettings) -> dict[Place, dict[str, int]]:
    """Return how far each group has read each of Headrace's own partitions."""
    admin = KafkaAdminClient(client_id=NAME, **settings.kafka_client())
    try:
        groups = sorted(str(group["group_id"]) for group in admin.list_groups())
        found = admin.list_group_offsets(groups) if groups else {}
    finally:
        admin.close()
    places: dict[Place, dict[str, int]] = {}
    for group, offsets in found.items():
        for partition, committed in offsets.items():
            if partition.topic.startswith(BRAND) and committed.offset >= 0:
                places.setdefault((partition.topic, partition.partition), {})[group] = committed.offset
    return places


def _save_partition(
    settings: KafkaSettings, place: Place, committed: dict[str, int], folder: Path
) -> tuple[int, Counter[str]]:
    """Write a partition; return its messages, and how many of them each group has read.

    Offsets have gaps where transactions ended and where compaction was; in a restore they have none.
    """
    messages, passed = 0, Counter(dict.fromkeys(committed, 0))
    with LogReader(settings, NAME) as reader, gzip.open(folder / _file(place), "wt", compresslevel=1) as file:
        reader.start_at({place: None})
        for records in reader.read_to(reader.ends([place])):
            for record in records:
                file.write(f"{json.dumps(_as_json(record))}\n")
                passed.update(group for group, offset in committed.items() if record.offset < offset)
            messages += len(records)
    return messages, passed


def _write(settings: KafkaSettings, folder: Path, place: Place) -> int:
    producer = best_effort_producer(settings, NAME, 0.02)
    written, sent = 0, []
    try:
        with gzip.open(folder / _file(place), "rt") as file:
            for line in file:
                told = json.loads(line)
                key, value = (None if told[name] is None else base64.b64decode(told[name]) for name in ("key", "value"))
                headers = [(name, base64.b64decode(content)) for name, content in told["headers"]]
                options = {"headers": headers, "partition": place[1], "timestamp_ms": told["timestamp_ms"]}
                sent.append(producer.send(place[0], value, key=key, **options))
                if len(sent) == AT_ONCE:
                    written += _acknowledged(sent)
                    sent = []
        written += _acknowledged(sent)
    finally:
        producer.close()
    return written


def _acknowledged(sent: list[Any]) -> int:
    for future in sent:
        future.get(timeout=WRITTEN_S)
    return len(sent)


def _copy(source: ObjectStore, target: ObjectStore) -> int:
    names = [name for folder in FOLDERS for name in source.list(folder)]
    for name in names:
        data = source.read(name)
        if data is not None:
            target.write(name, data)
    return len(names)


def _file(place: Place) -> str:
    return f"{place[0]}-{place[1]}.jsonl.gz"


def _as_json(record: Record) -> dict[str, Any]:
    def text(data: bytes | None) -> str | None:
        return None if data is None else base64.b64encode(data).decode()

    return {
        "timestamp_ms": record.timestamp_ms,
        "key": text(record.key),
        "value": text(record.value),
        "headers": [[name, text(value)] for name, value in record.headers],
    }


def _contents(folder: Path) -> dict[str, Any]:
    try:
        contents: dict[str, Any] = json.loads((folder / CONTENTS).read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder}: expected a backup with a {CONTENTS}, got: {error}") from error
    return contents


def main() -> int:
    """Save or restore; print what was done and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m headrace_runtime.backup", description=__doc__)
    parser.add_argument("command", choices=("save", "restore"))
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the backup is")
    parser.add_argument("--store", default="", metavar="URL", help="the object store; else HEADRACE_STORE_URL")
    arguments = parser.parse_args()
    try:
        settings = load_settings(ServiceSettings)
        store = ObjectStore(arguments.store or settings.store_url)
        act = save if arguments.command == "save" else restore
        for line in act(settings, store, arguments.folder):
            print(line, flush=True)  # noqa: T201
    except (HeadraceError, KafkaError) as error:
        print(f"backup: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
