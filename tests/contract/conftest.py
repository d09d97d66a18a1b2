"""A lane through preprocessing: raw batches in on one side, what becomes of them out on the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.message import Message
from headrace.events.v1 import (
    artifact_pb2,
    backfill_pb2,
    dataset_pb2,
    hold_pb2,
    pipeline_pb2,
    record_pb2,
    segment_pb2,
)
from headrace_data.batches import from_ipc, to_ipc
from headrace_data.dataset import DatasetReader
from headrace_data.history import History
from headrace_data.manifest import Manifest
from headrace_data.records import RecordChecker
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.split import SPLITS
from headrace_preprocessing.settings import Settings
from headrace_runtime.kafka import Admin, LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.record_topics import clean_topic, dead_topic, raw_topic
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.telemetry.hold import Held
from headrace_runtime.topics import PIPELINE_APPLIED, topic_of

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {name}}}
stream:
  topic: {name}
  schema:
    - {{name: key, type: int64, role: id}}
    - {{name: value, type: float32, shape: [2], role: feature, range: [0, 1]}}
    - {{name: depth, type: float64, role: feature, nullable: true}}
    - {{name: digit, type: int64, role: label, range: [0, 9]}}
prepare:
  freeze: {freeze}
train:
  network: {{kind: mlp, hidden: [4]}}
"""
LEVELS = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {name}}}
stream:
  topic: {name}
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: level, type: float32, role: feature}}
    - {{name: state, type: int64, role: label}}
prepare: {{}}
train:
  network: {{kind: mlp, hidden: [4]}}
"""
PARTITIONS = 3


class Lane:
    """One pipeline. Its producers' topic is empty: raw batches are made here, as ingestion makes them."""

    def __init__(self, settings: Settings, freeze: str) -> None:
        self.settings = settings
        self.name = f"p{uuid.uuid4().hex[:8]}"
        self._document = DOCUMENT.format(name=self.name, freeze=freeze)
        self.pipeline = load_pipeline(self._document)
        self.offsets: Counter[int] = Counter()
        """Next offset by producers' partition."""
        self._checker = RecordChecker(self.pipeline.stream)
        with Admin(settings, "test") as admin:
            admin.ensure_topic(self.name, PARTITIONS)
            admin.ensure_record_topics(self.name, PARTITIONS)
            self.cluster_id, self.topic_id = admin.cluster_id(), admin.topic_id(self.name)
        self.source_id = self.topic_id
        """What batches name as the id of the producers' topic; older versions of ingestion name none."""

    def change(self, **rules: str) -> None:
        """Clean by other rules from now on; the new spec must still be applied."""
        self.prepare("clean", "{" + ", ".join(f"{name}: {rule}" for name, rule in rules.items()) + "}")

    def prepare(self, key: str, value: str) -> None:
        """Prepare in another way from now on; the new spec must still be applied."""
        self.pipeline = load_pipeline(self._document.replace("prepare:\n", f"prepare:\n  {key}: {value}\n"))

    def narrow(self, field: str, old: str, new: str) -> None:
        """Have another range of a field from now on; the new spec must still be applied."""
        lines = [line.replace(old, new) if f"name: {field}," in line else line for line in self._document.splitlines()]
        self.pipeline = load_pipeline("\n".join(lines))

    def grow(self, field: str, transform: str) -> None:
        """Have one more field, height, told as a schema does, from now on; the new spec must still be applied."""
        label, first = "    - {name: digit,", "  transform: {"
        changed = self._document.replace(label, f"    - {field}\n{label}").replace(
            first, f"{first}height: {transform}, "
        )
        self.pipeline = load_pipeline(changed)
        self._document, self._checker = changed, RecordChecker(self.pipeline.stream)

    def label_later(self, within: str, serve: str = "{}") -> None:
        """Have labels come later, on the topic of `label`; the new spec must still be applied."""
        topic = f"  topic: {self.name}\n"
        changed = self._document.replace(topic, f"{topic}  labels: {{topic: {self.name}-labels, within: {within}}}\n")
        changed += f"serve: {serve}\n"
        self.pipeline = load_pipeline(changed)
        self._document, self._checker = changed, RecordChecker(self.pipeline.stream.incoming)
        with Admin(self.settings, "test") as admin:
            admin.ensure_topic(f"{self.name}-labels", 2)

    def label(self, *values: bytes) -> None:
        """Send labels to partitions in turns."""
        self._write(*(Outgoing(f"{self.name}-labels", None, each, partition=at % 2) for at, each in enumerate(values)))

    def apply(self) -> None:
        spec = pipeline_pb2.PipelineSpec(json=self.pipeline.canonical_json(), digest=self.pipeline.digest)
        applied = pipeline_pb2.PipelineApplied(pipeline=self.name, spec=spec, partitions=PARTITIONS)
        self._write(encode(applied, source="test"))

    def remove(self) -> None:
        self._write(Outgoing(PIPELINE_APPLIED.name, self.name.encode(), None))

    def request(self, *request_ids: str) -> None:
        requests = [dataset_pb2.DatasetRequested(pipeline=self.name, request_id=request) for request in request_ids]
        self._write(*(encode(request, source="test") for request in requests))

    def backfill(self, request: str, **wanted: Any) -> None:
        """Ask for a backfill; `wanted` are the fields of the message."""
        asked = dataset_pb2.DatasetRequested(
            pipeline=self.name, request_id=request, backfill=backfill_pb2.Backfill(**wanted)
        )
        self._write(encode(asked, source="test"))

    def settle(self, request: str, segment_id: str, verdict: hold_pb2.HoldVerdict.ValueType) -> None:
        """Order that a held segment is accepted or dropped."""
        hold = hold_pb2.Hold(segment_id=segment_id, verdict=verdict)
        asked = dataset_pb2.DatasetRequested(pipeline=self.name, request_id=request, hold=hold)
        self._write(encode(asked, source="test"))

    def file(self, name: str, data: bytes) -> backfill_pb2.BackfillFile:
        """Keep a file in the object store, of the format that its name ends with."""
        kept = ObjectStore(self.settings.store_url).put(data)
        artifact = artifact_pb2.Artifact(uri=kept.uri, digest=kept.digest, size_bytes=kept.size_bytes)
        return backfill_pb2.BackfillFile(name=name, format=name.rpartition(".")[2], artifact=artifact)

    def history(self) -> History:
        """Return the segments that there are, as the newest message tells."""
        newest = self.facts(segment_pb2.SegmentCut)[-1].history
        return History.from_json(ObjectStore(self.settings.store_url).get(newest))

    def send(self, *batches: tuple[int, Sequence[Mapping[str, Any]]]) -> None:
        """Write one raw message for each batch: a partition, and the records in it. Negative partitions are pushed.

        A record's `at_s` is its event time, in seconds since 1970.
        """
        self._write(*(self._raw(partition, records) for partition, records in batches))

    def _raw(self, partition: int, records: Sequence[Mapping[str, Any]]) -> Outgoing:
        start, count = self.offsets[partition], len(records)
        is_pushed = partition < 0
        # Pushed records share the offset of their batch, and other pipelines' batches lie between them.
        offsets = [start] * count if is_pushed else range(start, start + count)
        end = offsets[-1] + 1
        self.offsets[partition] = end + 3 if is_pushed else end
        values = [json.dumps(record).encode() for record in records]
        indexes = range(count) if is_pushed else [0] * count
        times = np.array([record.get("at_s", "NaT") for record in records], "M8[s]").astype("M8[us]")
        checked = self._checker.check(values, [partition] * count, offsets, indexes, times)
        message = record_pb2.RecordBatch(
            pipeline=self.name,
            spec_digest=self.pipeline.digest,
            arrow=to_ipc(checked.batch),
            rows=len(checked.batch),
            sources=[record_pb2.SourceRange(partition=partition, start=start, end=end)],
            topic_id="" if is_pushed else self.source_id,
            rejected=Counter(rejection.rule for rejection in checked.rejected),
            time_sources=[record_pb2.TIME_SOURCE_ACCEPT if is_pushed else record_pb2.TIME_SOURCE_CREATE],
            writer_schemas=[f"sha256:{partition}"],
        )
        target = (-1 - partition if is_pushed else partition) % PARTITIONS
        return Outgoing(raw_topic(self.name), None, message.SerializeToString(), partition=target)

    def send_clean(
        self, partition: int, records: Sequence[Mapping[str, Any]], depth: Mapping[int, float | None]
    ) -> None:
        """Write a message to the clean topic; `depth` holds values by key that no record may have."""
        message = record_pb2.RecordBatch.FromString(self._raw(partition, records).value or b"")
        rows = from_ipc(message.arrow)
        place = rows.schema.get_field_index("depth")
        values = [depth.get(row["key"], row["depth"]) for row in rows.to_pylist()]
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values, pa.float64()))
        message.arrow = to_ipc(rows)
        self._write(Outgoing(clean_topic(self.name), None, message.SerializeToString(), partition=partition))

    def _write(self, *messages: Outgoing) -> None:
        producer = TransactionalProducer(self.settings, f"test.{self.name}")
        with closing(producer), producer.transaction() as transaction:
            transaction.send(messages)

    def read(self, topic: str) -> list[Record]:
        with LogReader(self.settings, "test") as reader:
            places = reader.partitions(topic)
            reader.start_at(dict.fromkeys(places))
            return [record for records in reader.read_to(reader.ends(places), stall_s=60) for record in records]

    def clean(self) -> list[tuple[Record, record_pb2.RecordBatch]]:
        records = self.read(clean_topic(self.name))
        return [(record, decode(record, record_pb2.RecordBatch)) for record in records]

    def rows(self) -> list[dict[str, Any]]:
        return [row for _, batch in self.clean() for row in from_ipc(batch.arrow).to_pylist()]

    def dead(self) -> list[Record]:
        return self.read(dead_topic(self.name))

    def facts(self, message_class: type[Message]) -> list[Any]:
        messages: list[Any] = [decode(record, message_class) for record in self.read(topic_of(message_class).name)]
        return [message for message in messages if message.pipeline == self.name]

    def frozen(self) -> list[dataset_pb2.DatasetFrozen]:
        return self.facts(dataset_pb2.DatasetFrozen)

    def failed(self) -> list[tuple[str, str]]:
        return [(fact.request_id, fact.reason) for fact in self.facts(dataset_pb2.DatasetFailed)]

    def manifest(self, frozen: dataset_pb2.DatasetFrozen) -> Manifest:
        stored = Artifact(frozen.manifest.uri, frozen.manifest.digest, frozen.manifest.size_bytes)
        return Manifest.from_json(ObjectStore(self.settings.store_url).get(stored))

    def dataset_rows(self, frozen: dataset_pb2.DatasetFrozen) -> list[dict[str, Any]]:
        reader = DatasetReader(self.manifest(frozen), ObjectStore(self.settings.store_url))
        return [row for split in SPLITS for batch in reader.batches(split) for row in batch.to_pylist()]


class Child:
    """The service as a process of its own, which can be killed, stopped, and held within a span."""

    def __init__(
        self, settings: Settings, home: Path, until: Callable[..., None], instance: str = "0", **changes: str
    ) -> None:
        self._holds = home / "holds" / "preprocessing"
        self._holds.mkdir(parents=True, exist_ok=True)
        self._until = until
        self._log = home / f"{instance}.log"
        own = {
            "kafka_bootstrap_servers": settings.kafka_bootstrap_servers,
            "kafka_session_timeout_ms": str(settings.kafka_session_timeout_ms),
            "store_url": settings.store_url,
            "metrics_address": "",
            "instance": instance,
            "hold_dir": str(home / "holds"),
        }
        environment = os.environ | {f"HEADRACE_{name.upper()}": value for name, value in (own | changes).items()}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace_preprocessing"], env=environment, stdout=log, stderr=log
            )

    def arm(self, point: str) -> None:
        (self._holds / point).touch()

    def wait_held(self, point: str) -> None:
        held = self._holds / f"{point}.held"
        self._until(lambda: held.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()
        assert Held.read(held).pid == self.process.pid

    def let_go(self, point: str) -> None:
        (self._holds / f"{point}.held").unlink()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for held in self._holds.glob("*.held"):
            if Held.read(held).pid == self.process.pid:
                held.unlink()

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture(scope="session")
def forget_pipelines() -> Callable[[KafkaSettings], None]:
    """Take back every pipeline that is applied on a broker: whatever service starts there next would run them all."""

    def forget(settings: KafkaSettings) -> None:
        with LogReader(settings, "test") as reader:
            places = reader.partitions(PIPELINE_APPLIED.name)
            reader.start_at(dict.fromkeys(places))
            newest = {record.key: record for read in reader.read_to(reader.ends(places)) for record in read}
        gone = [Outgoing(PIPELINE_APPLIED.name, key, None) for key, record in newest.items() if record.value]
        producer = TransactionalProducer(settings, "test.forget")
        with closing(producer), producer.transaction() as transaction:
            transaction.send(gone)

    return forget


@pytest.fixture(scope="session")
def lane_settings(share: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of preprocessing on a broker of its own, where no other test's pipelines keep it busy."""
    from headrace_local.launcher import Platform

    home = tmp_path_factory.mktemp("lanes")
    broker = share("tests/", Platform.on_free_ports(home, services=()))
    return Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        metrics_address="",
        kafka_session_timeout_ms=6_000,
        store_url=str(home / "store"),
    )


@pytest.fixture(scope="module")
def preprocessing(lane_settings: Settings) -> Iterator[None]:
    """Preprocessing in this process. Pipelines come and go while it runs."""
    from headrace_preprocessing.wiring import build

    running = build(lane_settings)
    running.start()
    yield
    running.stop()


@pytest.fixture
def lanes(lane_settings: Settings) -> Iterator[Callable[[str], Lane]]:
    """Open a lane for a freeze policy, as in `lanes("{afterRecords: 60}")`; its pipeline must still be applied."""
    opened: list[Lane] = []

    def open_lane(freeze: str = "{}") -> Lane:
        opened.append(Lane(lane_settings, freeze))
        return opened[-1]

    yield open_lane
    for lane in opened:
        lane.remove()


@pytest.fixture(scope="session")
def new_level_pipeline() -> Callable[[], Pipeline]:
    """Makes a pipeline of one feature, under a name of its own."""
    return lambda: load_pipeline(LEVELS.format(name=f"p{uuid.uuid4().hex[:8]}"))


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait until a condition holds."""

    def wait(condition: Callable[[], Any], timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            began = time.monotonic()
            if condition():
                return
            assert time.monotonic() < deadline, "the condition did not come true"
            # Looking takes processor time from those that are waited for: a quarter of it at most.
            threading.Event().wait(max(0.05, 3 * (time.monotonic() - began)))

    return wait


@pytest.fixture
def start(lane_settings: Settings, tmp_path: Path, until: Callable[..., None]) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def run(instance: str = "0", **changes: str) -> Child:
        children.append(Child(lane_settings, tmp_path, until, instance, **changes))
        return children[-1]

    yield run
    for child in children:
        child.kill()
