"""Dead letters on a real broker: found with their reasons, and sent once more exactly once."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import headrace_ingestion.settings
import headrace_ingestion.wiring
import headrace_preprocessing.settings
import headrace_preprocessing.wiring
import pytest
from headrace.events.v1 import pipeline_pb2, record_pb2
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from headrace_data.batches import from_ipc
from headrace_data.spec import load_pipeline
from headrace_runtime.kafka import Admin, LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.record_topics import clean_topic, dead_topic, raw_topic
from headrace_runtime.records import Record
from headrace_runtime.stream.dead_letters import MAX_VALUE_BYTES
from headrace_runtime.stream.pipelines import PipelineParts
from headrace_runtime.topics import PUSH_ACCEPTED
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform
    from headrace_runtime.settings import KafkaSettings

pytestmark = pytest.mark.contract

ACCEPTED, REJECTED = messages.REPLAY_OUTCOME_ACCEPTED, messages.REPLAY_OUTCOME_REJECTED
REPEATED, EXHAUSTED = messages.REPLAY_OUTCOME_REPEATED, messages.REPLAY_OUTCOME_EXHAUSTED

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: NAME}
stream:
  topic: NAME
  format: json
  key: id
  schema:
    - {name: id, type: string, role: id}
    - {name: level, type: float32, shape: [2, 2], role: feature, range: [0, 10]}
    - {name: state, type: int64, role: label}
    - {name: depth, type: float64, role: feature}
prepare: {}
train:
  network: {kind: mlp, hidden: [4]}
  optimizer: {kind: adam, learningRate: 0.01}
  epochs: 1
  batchSize: 8
"""
WIDER = ("range: [0, 10]", "range: [0, 100]")
DEPTHLESS = ("    - {name: depth, type: float64, role: feature}\n", "")
LIMIT = 5_000


@dataclass
class Running:
    """Ingestion and preprocessing in this process, and one pipeline of the test's own."""

    settings: KafkaSettings
    stub: IngestionServiceStub
    followers: Sequence[PipelineParts]
    pipeline: str

    def apply(self, *changes: tuple[str, str]) -> None:
        document = DOCUMENT.replace("NAME", self.pipeline)
        for change in changes:
            document = document.replace(*change)
        spec = load_pipeline(document)
        applied = pipeline_pb2.PipelineApplied(
            pipeline=self.pipeline,
            spec=pipeline_pb2.PipelineSpec(json=spec.canonical_json(), digest=spec.digest),
            partitions=2,
        )
        name = f"test.{uuid.uuid4().hex}"
        with closing(TransactionalProducer(self.settings, name)) as producer, producer.transaction() as transaction:
            transaction.send([encode(applied, source="test")])
        for follower in self.followers:
            follower.catch_up(60.0)

    def send(self, *values: bytes | None) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers, compression_type="zstd", max_request_size=2**25
        )
        for value in values:
            producer.send(self.pipeline, value, key=b"k", headers=[("own", b"1"), ("dead-replays", b"7")])
        producer.close()

    def read(self, topic: str) -> list[Record]:
        with LogReader(self.settings, "test") as reader:
            places = reader.partitions(topic)
            reader.start_at(dict.fromkeys(places))
            return [record for records in reader.read_to(reader.ends(places), stall_s=30) for record in records]

    def rows(self, topic: str) -> list[dict[str, Any]]:
        batches = [decode(record, record_pb2.RecordBatch) for record in self.read(topic)]
        return [row for batch in batches for row in from_ipc(batch.arrow).to_pylist()]

    def clean_ids(self) -> list[str]:
        return sorted(row["id"] for row in self.rows(clean_topic(self.pipeline)))

    def letters(self, limit: int = 0, **wanted: str) -> list[messages.DeadLetter]:
        request = messages.ListDeadLettersRequest(
            pipeline=self.pipeline, filter=messages.DeadLetterFilter(**wanted), limit=limit
        )
        return [answer.letter for answer in self.stub.ListDeadLetters(request, timeout=60)]

    def replay(self, *, dry_run: bool = False, **wanted: str) -> dict[str, tuple[int, str]]:
        request = messages.ReplayDeadLettersRequest(
            pipeline=self.pipeline, filter=messages.DeadLetterFilter(**wanted), dry_run=dry_run
        )
        answers = self.stub.ReplayDeadLetters(request, timeout=60)
        return {answer.letter.id: (answer.outcome, answer.reason) for answer in answers}


@pytest.fixture(scope="module")
def services(
    broker: Platform, tmp_path_factory: pytest.TempPathFactory, forget_pipelines: Callable[[KafkaSettings], None]
) -> Iterator[tuple[Any, ...]]:
    from headrace_local.ports import find_free

    port = find_free(1)[0]
    common: dict[str, Any] = {
        "kafka_bootstrap_servers": broker.bootstrap_servers,
        "metrics_address": "",
        "instance": "dead",
    }
    settings = headrace_ingestion.settings.Settings(
        **common, listen_address=f"127.0.0.1:{port}", max_record_bytes=LIMIT
    )
    store = str(tmp_path_factory.mktemp("store"))
    forget_pipelines(settings)
    ingestion = headrace_ingestion.wiring.build(settings)
    preprocessing = headrace_preprocessing.wiring.build(
        headrace_preprocessing.settings.Settings(**common, store_url=store)
    )
    ingestion.start()
    preprocessing.start()
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        # Nobody waits for preprocessing: what ingestion checks against a new spec waits there by itself.
        followers = [part for part in ingestion._components if isinstance(part, PipelineParts)]
        yield settings, IngestionServiceStub(channel), followers
    preprocessing.stop()
    ingestion.stop()
    forget_pipelines(settings)


@pytest.fixture
def running(services: tuple[Any, ...]) -> Running:
    settings, stub, followers = services
    found = Running(settings, stub, followers, f"p{uuid.uuid4().hex[:8]}")
    with Admin(settings, "test") as admin:
        admin.ensure_topic(found.pipeline, 2)
        admin.ensure_record_topics(found.pipeline, 2)
    found.apply()
    return found


def record(name: str, **other: Any) -> bytes:
    return json.dumps({"id": name, "level": [[1, 2], [3, 4]], "state": 3, "depth": 0.5, **other}).encode()


BAD = {
    "json": b"{broken",
    "type": record("type", state="deep"),
    "shape": record("shape", level=[1, 2, 3]),
    "missing": record("missing", depth=None),
    "oversized": record("oversized", note="x" * LIMIT),
    "outOfRange": record("range", level=[[1, 2], [3, 40.5]], extra="kept"),
}


def test_every_kind_of_bad_record_is_found_with_its_bytes_its_reason_and_its_origin(
    running: Running, until: Callable[..., None]
) -> None:
    nan = record("nan").replace(b"0.5", b"NaN")
    running.send(*BAD.values(), nan, record("good"))
    until(lambda: len(running.letters()) == 7 and running.clean_ids() == ["good"])

    letters = {letter.value: letter for letter in running.letters(stage="ingestion")}
    assert {letter.rule for letter in running.letters()} == BAD.keys()
    for rule in BAD.keys() - {"outOfRange"}:
        assert letters[BAD[rule]].rule == rule
    assert letters[nan].rule == "json"
    assert letters[BAD["type"]].field == "state"
    assert letters[BAD["type"]].reason == 'state: expected a value of type int64, got "deep"'
    assert letters[BAD["oversized"]].reason == f"expected at most {LIMIT} bytes, got {len(BAD['oversized'])}"
    sent = {(item.partition, item.offset): item.value for item in running.read(running.pipeline)}
    assert all(sent[letter.partition, letter.offset] == letter.value for letter in letters.values())
    assert {(letter.topic, letter.key, letter.replays) for letter in letters.values()} == {(running.pipeline, b"k", 0)}

    (outside,) = running.letters(rule="outOfRange", field="level")
    assert (outside.stage, outside.reason) == ("preprocessing", "level: element 3: expected 0 to 10, got 40.5")
    assert json.loads(outside.value)["level"] == [[1, 2], [3, 40.5]]
    assert sent[outside.partition, outside.offset] == BAD["outOfRange"]
    (shown,) = running.letters(id=outside.id)
    assert (shown.value, shown.original) == (outside.value, BAD["outOfRange"])
    assert len(running.letters(limit=2)) == 2
    wanted = messages.ListDeadLettersRequest(
        pipeline=running.pipeline, filter=messages.DeadLetterFilter(stage="ingestion"), limit=2, count=True
    )
    *some, last = running.stub.ListDeadLetters(wanted, timeout=60)
    assert (len(some), last.HasField("letter"), sum(last.counts.values())) == (2, False, 6)
    assert last.counts["json"] == 2
    assert running.letters(id="0:999999") == []
    assert running.letters(rule="json", stage="preprocessing") == []


def test_a_record_that_no_topic_of_the_pipeline_can_hold_stops_nothing(
    running: Running, until: Callable[..., None]
) -> None:
    huge = b"x" * (9 * 1024 * 1024)
    running.send(record("before"), huge, record("after"))
    until(lambda: len(running.letters()) == 1 and running.clean_ids() == ["after", "before"])
    (letter,) = running.letters()
    assert (letter.rule, letter.reason) == ("oversized", f"expected at most {LIMIT} bytes, got {len(huge)}")
    assert len(letter.value) == MAX_VALUE_BYTES
    (shown,) = running.letters(id=letter.id)
    assert shown.value == huge


@pytest.mark.parametrize(
    "headers",
    [
        {"dead-partition": "9" * 30, "dead-offset": "9" * 25, "dead-replays": "9" * 5_000},
        {"dead-stage": "preprocessing", "dead-topic": "no/topic at all", "dead-partition": "0", "dead-offset": "1"},
        {"dead-stage": "preprocessing", "dead-topic": "headrace.push.requested.v1", "dead-partition": "0"},
    ],
)
def test_what_others_wrote_among_the_letters_hides_no_letter(
    running: Running, until: Callable[..., None], headers: dict[str, str]
) -> None:
    running.send(BAD["type"])
    until(lambda: len(running.letters()) == 1)
    producer = KafkaProducer(bootstrap_servers=running.settings.kafka_bootstrap_servers)
    told = [(name, text.encode()) for name, text in headers.items()]
    place = producer.send(dead_topic(running.pipeline), b"{", headers=told).get(timeout=30)
    producer.close()
    foreign = f"{place.partition}:{place.offset}"
    assert {letter.id: letter.rule for letter in running.letters()}.pop(foreign) == ""
    assert [letter.value for letter in running.letters(id=foreign)] == [b"{"]
    assert running.replay()[foreign][0] == REJECTED


def test_a_replay_passes_once_the_pipeline_is_mended_and_is_never_repeated(
    running: Running, until: Callable[..., None]
) -> None:
    running.send(record("good"), BAD["missing"], BAD["outOfRange"])
    until(lambda: len(running.letters()) == 2 and running.clean_ids() == ["good"])
    rules = {letter.id: letter.rule for letter in running.letters()}
    before = running.replay(dry_run=True)
    assert {rules[letter]: told for letter, told in before.items()} == {
        "missing": (REJECTED, "depth: expected a value, got none"),
        "outOfRange": (REJECTED, "level: element 3: expected 0 to 10, got 40.5"),
    }

    running.apply(WIDER, DEPTHLESS)
    assert running.replay(dry_run=True) == dict.fromkeys(rules, (ACCEPTED, ""))
    assert len(running.rows(raw_topic(running.pipeline))) == 2
    with ThreadPoolExecutor(4) as pool:
        told = [future.result() for future in [pool.submit(running.replay) for _ in range(4)]]
    for letter in rules:
        assert sorted(outcomes[letter][0] for outcomes in told) == [ACCEPTED, *[REPEATED] * 3]
    until(lambda: running.clean_ids() == ["good", "missing", "range"])
    assert running.replay() == dict.fromkeys(rules, (REPEATED, ""))

    accepted = {
        decode(item, record_pb2.PushAccepted).batch_id: (item.partition, item.offset)
        for item in running.read(PUSH_ACCEPTED.name)
        if item.key and item.key.startswith(running.pipeline.encode())
    }
    rows = {row["id"]: row for row in running.rows(raw_topic(running.pipeline)) if row["_partition"] < 0}
    ids = {rule: letter for letter, rule in rules.items()}
    for rule, name in (("missing", "missing"), ("outOfRange", "range")):
        partition, offset = accepted[f"dead/{ids[rule]}"]
        assert (rows[name]["_partition"], rows[name]["_offset"]) == (-1 - partition, offset)
    assert len(running.read(dead_topic(running.pipeline))) == 2


def test_what_stays_bad_comes_back_as_a_new_letter_twice_and_then_no_more(
    running: Running, until: Callable[..., None]
) -> None:
    running.send(BAD["type"], BAD["outOfRange"])
    until(lambda: len(running.letters()) == 2)
    for round_number in (1, 2):
        told = running.replay()
        assert sorted(outcome for outcome, _ in told.values()) == [REJECTED] * 2 + [REPEATED] * 2 * (round_number - 1)
        until(lambda expected=2 + 2 * round_number: len(running.letters()) == expected)
    letters = {letter.id: letter for letter in running.letters()}
    assert sorted(letter.replays for letter in letters.values()) == [0, 0, 1, 1, 2, 2]
    # Whatever was sent again still names the message that the producer sent.
    places = {(letter.rule, letter.topic, letter.partition, letter.offset) for letter in letters.values()}
    assert {place[:2] for place in places} == {("type", running.pipeline), ("outOfRange", running.pipeline)}
    assert len(places) == 2
    # A record's letters lie in the partition of its producer's message.
    assert {letter.id.split(":")[0] for letter in letters.values()} == {str(place[2]) for place in places}
    stored = {f"{item.partition}:{item.offset}": item for item in running.read(dead_topic(running.pipeline))}
    for letter in letters.values():
        earlier = stored[letter.id].header("dead-replay-of")
        assert (earlier is None) == (letter.replays == 0)
        assert earlier is None or (letters[earlier].replays, letters[earlier].rule) == (letter.replays - 1, letter.rule)
    last = running.replay()
    assert {letters[letter].replays: outcome for letter, (outcome, _) in last.items()} == {
        0: REPEATED,
        1: REPEATED,
        2: EXHAUSTED,
    }
    assert len(running.letters()) == 6
    (typed,) = [letter for letter in letters.values() if letter.rule == "type" and letter.replays == 2]
    assert typed.value == BAD["type"]
    assert stored[typed.id].header("own") == "1"


def test_a_pushed_record_that_was_rejected_names_its_batch_and_can_be_replayed(running: Running) -> None:
    request = messages.PushRequest(pipeline=running.pipeline, batch_id="b", records=[record("a"), BAD["missing"]])
    assert running.stub.Push(request, timeout=30).accepted == 1
    (letter,) = running.letters()
    assert (letter.topic, letter.value) == (PUSH_ACCEPTED.name, BAD["missing"])
    (accepting,) = [item for item in running.read(PUSH_ACCEPTED.name) if item.key == f"{running.pipeline}/b".encode()]
    assert (letter.partition, letter.offset) == (accepting.partition, accepting.offset)
    running.apply(DEPTHLESS)
    assert running.replay(id=letter.id) == {letter.id: (ACCEPTED, "")}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"stage": "training"}, "filter.stage: expected ingestion, preprocessing, backfill, file, got 'training'"),
        ({"id": "7"}, "filter.id: expected partition:offset such as 0:17, got '7'"),
    ],
)
def test_a_wrong_filter_is_refused_with_the_reason(running: Running, wanted: dict[str, Any], message: str) -> None:
    for call in (running.letters, running.replay):
        with pytest.raises(grpc.RpcError, match=message) as caught:
            call(**wanted)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_an_id_of_a_replay_cannot_be_pushed(running: Running) -> None:
    request = messages.PushRequest(pipeline=running.pipeline, batch_id="dead/0:1", records=[record("a")])
    with pytest.raises(grpc.RpcError, match="batch_id: expected one that does not begin with dead/"):
        running.stub.Push(request, timeout=30)


def test_a_broker_that_is_away_for_a_while_makes_no_dead_letter(
    running: Running, broker: Platform, until: Callable[..., None]
) -> None:
    (kafka,) = [process.pid for process in broker.status() if process.name == "kafka"]
    request = messages.PushRequest(pipeline=running.pipeline, batch_id="b", records=[record("pushed")])
    running.send(*(record(f"r{number}") for number in range(500)))
    os.kill(kafka, signal.SIGSTOP)
    try:
        pushing = running.stub.Push.future(request, timeout=60)
        with pytest.raises(grpc.FutureTimeoutError):
            pushing.result(timeout=2)
    finally:
        os.kill(kafka, signal.SIGCONT)
    assert pushing.result(timeout=60).accepted == 1
    expected = sorted(["pushed", *(f"r{number}" for number in range(500))])
    until(lambda: len(running.rows(clean_topic(running.pipeline))) >= 501)
    assert running.clean_ids() == expected
    assert running.read(dead_topic(running.pipeline)) == []
