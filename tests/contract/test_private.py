"""Personal fields on a real broker: what producers sent is found in none of Headrace's topics, nor in its store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import headrace_ingestion.settings
import headrace_ingestion.wiring
import headrace_preprocessing.settings
import headrace_preprocessing.wiring
import pyarrow.parquet
import pytest
from headrace.events.v1 import dataset_pb2, pipeline_pb2, record_pb2
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from headrace_data.batches import from_ipc
from headrace_data.private.hash import Hash
from headrace_data.private.keys import Secret
from headrace_data.spec import load_pipeline
from headrace_runtime.kafka import Admin, LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.record_topics import clean_topic, raw_topic
from headrace_runtime.records import Record
from headrace_runtime.stream.pipelines import PipelineParts
from headrace_runtime.topics import DATASET_FROZEN, PIPELINE_TROUBLED
from kafka import KafkaConsumer, KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform
    from headrace_runtime.settings import KafkaSettings

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: NAME}
stream:
  topic: NAME
  personal: {key: people, fields: {call: tokenize, customer: hash, note: mask, email: drop}}
  schema:
    - {name: call, type: string, role: id}
    - {name: customer, type: string, role: group}
    - {name: note, type: string, role: feature}
    - {name: minutes, type: float32, role: feature, range: [0, 60]}
    - {name: state, type: int64, role: label}
prepare: {split: {group: call}, freeze: {afterRecords: 32}, transform: {note: {encode: hash}}}
train: {network: {kind: mlp, hidden: [4]}}
"""
WIDER = ("range: [0, 60]", "range: [0, 600]")
KEY = b"0123456789abcdef0123456789abcdef"
LIMIT = 5_000
WORDS = ("lovelace", "call-no-", "ada@", "7946 0958", "secret")
"""What no topic and no file may have: it is in customers, calls, notes and emails, keys, headers and wrong places."""


@dataclass
class Running:
    """Ingestion and preprocessing in this process, and one pipeline of the test's own."""

    settings: KafkaSettings
    stub: IngestionServiceStub
    followers: Sequence[PipelineParts]
    keys: Path
    store: Path
    pipeline: str

    def apply(self, *changes: tuple[str, str]) -> None:
        document = DOCUMENT.replace("NAME", self.pipeline)
        for change in changes:
            document = document.replace(*change)
        spec = load_pipeline(document)
        told = pipeline_pb2.PipelineSpec(json=spec.canonical_json(), digest=spec.digest)
        applied = pipeline_pb2.PipelineApplied(pipeline=self.pipeline, spec=told, partitions=2)
        name = f"test.{uuid.uuid4().hex}"
        with closing(TransactionalProducer(self.settings, name)) as producer, producer.transaction() as transaction:
            transaction.send([encode(applied, source="test")])
        for follower in self.followers:
            follower.catch_up(60.0)

    def send(self, *values: bytes) -> None:
        producer = KafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap_servers)
        for value in values:
            producer.send(self.pipeline, value, key=b"call-no-1", headers=[("who", b"lovelace")])
        producer.close()

    def read(self, topic: str) -> list[Record]:
        with LogReader(self.settings, "test") as reader:
            places = reader.partitions(topic)
            reader.start_at(dict.fromkeys(places))
            return [record for records in reader.read_to(reader.ends(places), stall_s=30) for record in records]

    def rows(self, topic: str) -> list[dict[str, Any]]:
        batches = [decode(record, record_pb2.RecordBatch) for record in self.read(topic)]
        return [row for batch in batches for row in from_ipc(batch.arrow).to_pylist()]

    def letters(self, **wanted: str) -> list[messages.DeadLetter]:
        asked = messages.DeadLetterFilter(**wanted)
        request = messages.ListDeadLettersRequest(pipeline=self.pipeline, filter=asked)
        return [answer.letter for answer in self.stub.ListDeadLetters(request, timeout=60)]

    def replayed(self) -> dict[str, tuple[int, str]]:
        request = messages.ReplayDeadLettersRequest(pipeline=self.pipeline)
        answers = self.stub.ReplayDeadLetters(request, timeout=60)
        return {answer.letter.id: (answer.outcome, answer.reason) for answer in answers}

    def stored(self) -> str:
        """Return all that Headrace has: every byte of its topics and of its store, rows also as they read."""
        topics = [topic for topic in self._topics() if topic.startswith("headrace.")]
        assert raw_topic(self.pipeline) in topics
        told = list[str]()
        for topic in topics:
            told += [f"{record.key!r} {record.value!r} {record.headers!r}" for record in self.read(topic)]
        told += [repr(self.rows(topic(self.pipeline))) for topic in (raw_topic, clean_topic)]
        files = [path for path in self.store.rglob("*") if path.is_file()]
        assert files
        told += [repr(path.read_bytes()) for path in files]
        parts = [path for path in files if path.read_bytes()[:4] == b"PAR1"]
        assert parts
        return "\n".join(told + [repr(pyarrow.parquet.read_table(path).to_pydict()) for path in parts]).lower()

    def _topics(self) -> set[str]:
        consumer = KafkaConsumer(bootstrap_servers=self.settings.kafka_bootstrap_servers)
        with closing(consumer):
            return set(consumer.topics())


@pytest.fixture
def running(broker: Platform, tmp_path: Path, forget_pipelines: Callable[[KafkaSettings], None]) -> Iterator[Running]:
    from headrace_local.ports import find_free

    port = find_free(1)[0]
    keys, store = tmp_path / "keys", tmp_path / "store"
    keys.mkdir()
    common: dict[str, Any] = {
        "kafka_bootstrap_servers": broker.bootstrap_servers,
        "metrics_address": "",
        "instance": "private",
        "personal_keys_dir": keys,
    }
    own: dict[str, Any] = {"listen_address": f"127.0.0.1:{port}", "max_record_bytes": LIMIT}
    settings = headrace_ingestion.settings.Settings(**common, **own)
    forget_pipelines(settings)
    ingestion = headrace_ingestion.wiring.build(settings)
    preprocessing = headrace_preprocessing.wiring.build(
        headrace_preprocessing.settings.Settings(**common, store_url=str(store))
    )
    ingestion.start()
    preprocessing.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        followers = [part for part in ingestion._components if isinstance(part, PipelineParts)]
        found = Running(settings, IngestionServiceStub(channel), followers, keys, store, f"p{uuid.uuid4().hex[:8]}")
        with Admin(settings, "test") as admin:
            admin.ensure_topic(found.pipeline, 2)
            admin.ensure_record_topics(found.pipeline, 2)
        found.apply()
        yield found
    preprocessing.stop()
    ingestion.stop()
    forget_pipelines(settings)


def call(number: int, **other: Any) -> bytes:
    sound = {"call": f"call-no-{number}", "customer": "Ada Lovelace", "note": "ring +44 20 7946 0958"}
    return json.dumps({**sound, "state": number % 2, "minutes": number, "email": "ada@example.org", **other}).encode()


BAD = {
    "type": call(40, state="ada@example.org"),
    "json": b"secret " + call(41),
    "missing": call(42, customer=None),
    "oversized": call(43, other="secret" * LIMIT),
    "outOfRange": call(44, minutes=70),
}


def test_what_is_personal_is_stored_nowhere_and_records_are_replayed_from_their_topic(
    running: Running, until: Callable[..., None]
) -> None:
    running.send(*(call(number) for number in range(30)), *BAD.values())
    until(lambda: any("people" in repr(record.value) for record in running.read(PIPELINE_TROUBLED.name)))
    push = messages.PushRequest(pipeline=running.pipeline, batch_id="b", records=[call(30), BAD["type"]])
    with pytest.raises(grpc.RpcError, match="expected a file people in HEADRACE_PERSONAL_KEYS_DIR") as caught:
        running.stub.Push(push, timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert not running.read(raw_topic(running.pipeline))

    (running.keys / "people").write_bytes(KEY + b"\n")
    until(lambda: len(running.letters()) == len(BAD))
    answer = running.stub.Push(push, timeout=30)
    assert answer.accepted == 1
    assert answer.rejected[0].reason == "state: expected a value of type int64, got what is withheld"
    letters = {letter.id: letter for letter in running.letters()}
    assert all(letter.withheld and letter.key != b"call-no-1" for letter in letters.values())
    (typed,) = [each for each in letters.values() if (each.rule, each.topic) == ("type", running.pipeline)]
    assert json.loads(typed.value).keys() == {"call", "customer", "note", "minutes"}
    assert running.letters(id=typed.id)[0].original == b""

    running.apply(WIDER)
    outcomes = running.replayed()
    told = {(letters[each].rule, letters[each].topic == running.pipeline): outcomes[each] for each in letters}
    assert told["outOfRange", True] == (messages.REPLAY_OUTCOME_ACCEPTED, "")
    reason = "expected the record, which the letter withholds (personal fields, or a forgotten key): it was pushed"
    assert told["type", False] == (messages.REPLAY_OUTCOME_REJECTED, reason)
    until(lambda: len(running.rows(clean_topic(running.pipeline))) == 32)
    until(lambda: any(running.pipeline in fact.pipeline for fact in _frozen(running)))

    rows = running.rows(clean_topic(running.pipeline))
    assert {row["customer"] for row in rows} == {Hash(Secret("people", lambda _: KEY)).of("Ada Lovelace")}
    assert {row["note"] for row in rows} == {"ring [phone]"}
    (frozen,) = [fact for fact in _frozen(running) if fact.pipeline == running.pipeline]
    assert frozen.masked["phone"] == 33
    stored = running.stored()
    assert "[phone]" in stored
    assert rows[0]["customer"] in stored
    assert [word for word in WORDS if word in stored] == []


def _frozen(running: Running) -> list[dataset_pb2.DatasetFrozen]:
    # Others write to this topic, too, and not facts alone.
    own = [record for record in running.read(DATASET_FROZEN.name) if record.key == running.pipeline.encode()]
    return [decode(record, dataset_pb2.DatasetFrozen) for record in own]
