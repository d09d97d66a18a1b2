"""Records on which processes die, on a real broker: parked alone, whatever stands around them arrives once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from headrace.events.v1 import pipeline_pb2, record_pb2
from headrace_client import IngestionClient
from headrace_data.batches import from_ipc
from headrace_data.spec import Pipeline
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.transport.consumer import handler
from headrace_ingestion.transport.suspects import IntakeSuspects
from headrace_local.ports import find_free
from headrace_preprocessing.settings import Settings
from headrace_runtime.errors import Unavailable
from headrace_runtime.kafka import Admin, GroupConsumer, LogReader, Transaction, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.kafka.producers import MembershipLost
from headrace_runtime.record_topics import dead_topic, raw_topic
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.schema_registry import RegistryAccess
from headrace_runtime.stream.dead_letters import StoredLetter, read_letter
from headrace_runtime.stream.loops import TransactionLoop
from kafka.errors import CoordinatorLoadInProgressError, KafkaConnectionError

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]

POISONED = Path(__file__).parent / "children" / "poisoned"
KILLS, FAILS = 666_666, 777_777
PARTITIONS = 3
Until = Callable[..., None]
Lanes = Callable[..., Any]


class Service:
    """A service that dies of certain records, and is started again whenever it does, as a supervisor would."""

    def __init__(self, module: str, settings: Settings, log: Path, **changes: str) -> None:
        own = {
            "kafka_bootstrap_servers": settings.kafka_bootstrap_servers,
            "kafka_session_timeout_ms": str(settings.kafka_session_timeout_ms),
            "store_url": settings.store_url,
            "metrics_address": "",
        }
        self._environment = os.environ | {f"HEADRACE_{name.upper()}": value for name, value in (own | changes).items()}
        self._environment["PYTHONPATH"] = str(POISONED)
        self._command = [sys.executable, "-m", module]
        self.log_path = log
        self.codes: list[int] = []
        """How each process but the last ended."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise)

    def __enter__(self) -> Service:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _supervise(self) -> None:
        with self.log_path.open("ab") as log:
            while not self._stopping.is_set():
                process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
                while process.poll() is None and not self._stopping.wait(0.02):
                    pass
                if process.poll() is None:
                    process.terminate()
                    process.wait()
                else:
                    self.codes.append(process.returncode)


def read(settings: Settings, topic: str) -> list[Record]:
    with LogReader(settings, "test") as reader:
        places = reader.partitions(topic)
        reader.start_at(dict.fromkeys(places))
        return [record for records in reader.read_to(reader.ends(places), stall_s=60) for record in records]


def letters(settings: Settings, pipeline: str) -> list[StoredLetter]:
    return [read_letter(record) for record in read(settings, dead_topic(pipeline))]


def suspected(settings: Settings, group: str) -> int:
    """Return in how many partitions a group tries messages before it handles them, as `headrace status` tells."""
    try:
        with Admin(settings, "test") as admin:
            return sum(lag.suspected for lag in admin.lags() if lag.group == group)
    except CoordinatorLoadInProgressError:
        return 0  # the broker has only just started


class Stream:
    """A pipeline with its producers' topic."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self.settings = settings
        self.name = pipeline.name
        self.pipeline = pipeline
        with Admin(settings, "test") as admin:
            admin.ensure_topic(self.name, PARTITIONS)
            admin.ensure_record_topics(self.name, PARTITIONS)

    def write(self, messages: Sequence[Outgoing]) -> None:
        producer = TransactionalProducer(self.settings, f"test.{self.name}")
        with producer.transaction() as transaction:
            transaction.send(messages)
        producer.close()

    def apply(self) -> None:
        spec = pipeline_pb2.PipelineSpec(json=self.pipeline.canonical_json(), digest=self.pipeline.digest)
        applied = pipeline_pb2.PipelineApplied(pipeline=self.name, spec=spec, partitions=PARTITIONS)
        self.write([encode(applied, source="test")])

    def batches(self) -> list[record_pb2.RecordBatch]:
        return [decode(record, record_pb2.RecordBatch) for record in read(self.settings, raw_topic(self.name))]

    def ids(self) -> list[str]:
        return [name for batch in self.batches() for name in from_ipc(batch.arrow).column("id").to_pylist()]


def value(name: str) -> bytes:
    return json.dumps({"id": name, "level": 1.5, "state": 1}).encode()


def test_records_that_kill_or_fail_are_parked_and_their_neighbours_arrive_once(
    lane_settings: Settings, new_level_pipeline: Callable[[], Pipeline], tmp_path: Path, until: Until
) -> None:
    stream = Stream(lane_settings, new_level_pipeline())
    names = [f"r{number}" for number in range(900)]
    bad = {100: "KILLS-first", 101: "KILLS-second", 700: "FAILS-last"}
    sent = [bad.get(number, name) for number, name in enumerate(names)]
    stream.write(
        [Outgoing(stream.name, name.encode(), value(name), (), number % 3) for number, name in enumerate(sent)]
    )
    stream.apply()
    address = f"127.0.0.1:{find_free(1)[0]}"
    with Service("headrace_ingestion", lane_settings, tmp_path / "log", listen_address=address) as service:
        until(lambda: suspected(lane_settings, f"ingestion.{stream.name}"))
        until(lambda: len(stream.ids()) + len(letters(lane_settings, stream.name)) >= len(sent), 240.0)
        until(lambda: not suspected(lane_settings, f"ingestion.{stream.name}"))
        deaths = len(service.codes)
        # Whoever sends them once more is told that they still kill, and the service lives.
        with IngestionClient(address) as client:
            replayed = list(client.replay(stream.name))
        assert sorted(item.reason for item in replayed) == [
            "expected a record that can be handled: RuntimeError: a bug that this record meets",
            *["expected a record that can be handled: process died: SIGKILL"] * 2,
        ]
        assert len(service.codes) == deaths
    good = sorted(set(sent) - set(bad.values()))
    assert sorted(stream.ids()) == good
    parked = {letter.letter.key: letter.letter for letter in letters(lane_settings, stream.name)}
    assert set(parked) == {name.encode() for name in bad.values()}
    for number, name in bad.items():
        letter = parked[name.encode()]
        assert (letter.stage, letter.rule, letter.field) == ("ingestion", "crash", "")
        assert (letter.topic, letter.partition, letter.offset) == (stream.name, number % 3, number // 3)
        assert letter.value == value(name)
        died = "RuntimeError: a bug that this record meets" if "FAILS" in name else "process died: SIGKILL"
        assert letter.reason == died
    # Every place of the producers' topic is accounted for once, the parked ones among the rejected.
    ranges = sorted((item.partition, item.start, item.end) for batch in stream.batches() for item in batch.sources)
    covered = [(partition, offset) for partition, start, end in ranges for offset in range(start, end)]
    assert len(covered) == len(set(covered))
    assert sum((Counter(batch.rejected) for batch in stream.batches()), Counter()) == {"crash": 3}
    # It died of the first ones, and of nothing that it had been warned of.
    assert set(service.codes) == {-9}
    assert len(service.codes) <= 4
    assert "is set aside: process died: SIGKILL" in service.log_path.read_text()


def rows(start: int, count: int, *, without: int = -1, key: int = 0) -> list[dict[str, Any]]:
    keys = [key if number == without else number for number in range(start, start + count)]
    return [{"key": number, "value": [0.5, 0.5], "depth": 1.0, "digit": number % 3} for number in keys]


def test_one_bad_row_does_not_take_its_batch_with_it(
    lanes: Lanes, lane_settings: Settings, tmp_path: Path, until: Until
) -> None:
    lane = lanes()
    lane.send((0, rows(0, 50)), (0, rows(50, 500, without=333, key=KILLS)), (0, rows(550, 50)))
    # Bytes that are no Arrow at all, such as a broken sender would leave.
    broken = record_pb2.RecordBatch(
        pipeline=lane.name, arrow=b"rubbish", rows=7, sources=[record_pb2.SourceRange(partition=2, start=0, end=7)]
    )
    lane.apply()
    with Service("headrace_preprocessing", lane_settings, tmp_path / "log") as service:
        until(lambda: service.codes)
        lane.send((1, rows(1_000, 300, without=1_200, key=FAILS)))
        lane._write(Outgoing(raw_topic(lane.name), None, broken.SerializeToString(), (), 2))
        lane.offsets[2] = 7
        lane.send((2, rows(2_000, 10)))
        until(lambda: len(lane.rows()) >= 908 and len(lane.dead()) >= 3)
    keys = [row["key"] for row in lane.rows()]
    expected = {*range(600), *range(1_000, 1_300), *range(2_000, 2_010)} - {333, 1_200}
    assert sorted(keys) == sorted(expected)
    by_partition = {letter.letter.partition: letter.letter for letter in map(read_letter, lane.dead())}
    assert {letter.rule for letter in by_partition.values()} == {"crash"}
    assert (by_partition[0].topic, by_partition[0].offset) == (lane.name, 333)
    assert json.loads(by_partition[0].value or b"")["key"] == KILLS
    assert by_partition[0].reason == "process died: SIGKILL"
    assert (by_partition[1].offset, by_partition[1].reason) == (200, "RuntimeError: a bug that this row meets")
    assert by_partition[2].topic == raw_topic(lane.name)
    assert by_partition[2].value == broken.SerializeToString()
    assert "expected an Arrow IPC stream" in by_partition[2].reason
    counted = sum((Counter(batch.rejected) for _, batch in lane.clean()), Counter())
    assert counted == {"crash": 9}
    assert set(service.codes) == {-9}
    assert len(service.codes) <= 4


def _tell(failed: threading.Event, _: Exception) -> None:
    failed.set()


class Faulty(TransactionalProducer):
    """Notes what it is told to beside offsets, and fails as soon as records are to be written."""

    def __init__(self, settings: Settings, transactional_id: str, fault: Exception) -> None:
        super().__init__(settings, transactional_id)
        self._fault = fault

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with super().transaction() as transaction:
            transaction.commit_offsets = self._fail  # type: ignore[method-assign, assignment]
            yield transaction

    def _fail(self, *_: object) -> None:
        raise self._fault


FAULTS = [
    KafkaConnectionError("the broker is away"),
    OSError(errno.ENOSPC, "no space left on device"),
    Unavailable("the store is away"),
    MembershipLost("the lease moved"),
    TimeoutError("the cache does not answer"),
]


def test_ten_faults_of_the_platform_at_the_same_place_park_nothing(
    lane_settings: Settings, new_level_pipeline: Callable[[], Pipeline], until: Until
) -> None:
    stream = Stream(lane_settings, new_level_pipeline())
    names = [f"r{number}" for number in range(30)]
    stream.write([Outgoing(stream.name, None, value(name), (), number % 3) for number, name in enumerate(names)])
    intake = Intake(stream.pipeline, 900_000, 1_000_000)
    name = f"ingestion.{stream.name}"

    def loop(producer: Callable[..., TransactionalProducer], **more: Any) -> TransactionLoop:
        return TransactionLoop(
            name,
            partial(GroupConsumer, lane_settings, group=name, topics=[stream.name], instance="0"),
            partial(producer, lane_settings, f"{name}.0", **more),
            handler(intake),
            suspects=IntakeSuspects(intake, RegistryAccess()),
        )

    for fault in FAULTS * 2:
        failed = threading.Event()
        faulty = loop(Faulty, fault=fault)
        faulty.on_failure = partial(_tell, failed)
        faulty.start()
        if isinstance(fault, MembershipLost):
            failed.wait(0.5)
        else:
            assert failed.wait(60)
        faulty.stop()
    mended = loop(TransactionalProducer)
    mended.start()
    until(lambda: len(stream.ids()) >= len(names))
    mended.stop()
    assert sorted(stream.ids()) == sorted(names)
    assert not letters(lane_settings, stream.name)
