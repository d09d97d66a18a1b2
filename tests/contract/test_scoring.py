"""Records of a topic are answered on another: each once, as the door for records answers, whoever is killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from headrace.events.v1.model_pb2 import CACHE_POLICY_OFF, ModelReleased
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec, PipelineTroubled
from headrace.inference.v1.record_service_pb2 import PredictRecordsRequest, PredictRecordsResponse, SentRecord
from headrace_data.spec import load_pipeline
from headrace_inference.settings import Settings
from headrace_inference.transport.records import scoring
from headrace_inference.transport.records.answers import to_plain
from headrace_inference.wiring import build
from headrace_runtime.kafka import Admin, LogReader, TransactionalProducer, consumers
from headrace_runtime.kafka.beginnings import begin_at_end
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.record_topics import SCORING_GROUP, scored_topic
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.rpc.host import GrpcHost
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import PIPELINE_TROUBLED
from kafka import KafkaAdminClient, KafkaProducer
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: NAME}
stream:
  topic: NAME
  format: {kind: json, lines: true}
  select: sensor AS id, payload.levels AS levels, note AS note, state AS state
  schema:
    - {name: id, type: string, role: id}
    - {name: levels, type: float32, shape: [4], role: feature}
    - {name: note, type: string, role: slice, nullable: true}
    - {name: state, type: int64, role: label}
train: {network: {kind: mlp, hidden: [4]}}
serve: {scoring: {topic: NAME-asked}}
"""
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "lovelace"
REFERRING = ("  format: {kind: json, lines: true}", "  references: [levels]\n  format: {kind: json}")
PERSONAL = ("  format:", "  personal: {key: people, fields: {id: hash, note: mask}}\n  format:")


def mean_plus(bias: float) -> bytes:
    """Return a graph that answers with the mean of the levels plus a bias."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    shift = helper.make_tensor("bias", TensorProto.FLOAT, [], [bias])
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["levels", "axes"], ["mean"], keepdims=0),
            helper.make_node("Add", ["mean", "bias"], ["level"]),
        ],
        "mean",
        [helper.make_tensor_value_info("levels", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("level", TensorProto.FLOAT, ["batch"])],
        [axes, shift],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(made.SerializeToString())


def record(level: float, **more: Any) -> bytes:
    return json.dumps({"sensor": "s", "payload": {"levels": [level, level + 1, 0.5, 0.25]}, **more}).encode()


class Asked:
    """A pipeline whose records of a topic are answered, without the services that would train it."""

    def __init__(self, settings: Settings, *changes: tuple[str, str], partitions: int = 2) -> None:
        self.settings, self.name = settings, f"p{uuid.uuid4().hex[:8]}"
        self.topic, self.group = f"{self.name}-asked", SCORING_GROUP.format(pipeline=self.name)
        self.document = DOCUMENT.replace("NAME", self.name)
        for change in changes:
            self.document = self.document.replace(*change)
        with Admin(settings, "test") as admin:
            admin.ensure_topic(self.topic, partitions)
            admin.ensure_scored_topic(self.name, partitions)

    def apply(self) -> None:
        """Apply it as the registry does, from now on."""
        begin_at_end(self.settings, self.group, self.topic, f"test.{self.name}.beginnings")
        pipeline = load_pipeline(self.document)
        spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
        self._write(encode(PipelineApplied(pipeline=self.name, spec=spec, partitions=1), source="test"))

    def release(self, ordinal: int) -> None:
        """Release a version of its model, which adds its ordinal to the mean."""
        kept = ObjectStore(self.settings.store_url).put(mean_plus(float(ordinal)))
        event = ModelReleased(
            model=self.name,
            alias="champion",
            epoch=ordinal,
            version_id="sha256:" + f"{ordinal:064d}",
            ordinal=ordinal,
            variant="fp32",
            pipeline=self.name,
            dataset_id="dataset",
            run_id="run",
            cache=CACHE_POLICY_OFF,
        )
        event.graph.uri, event.graph.digest, event.graph.size_bytes = kept.uri, kept.digest, kept.size_bytes
        self._write(encode(event, source="test"))

    def _write(self, message: Outgoing) -> None:
        name = f"test.{self.name}"
        with closing(TransactionalProducer(self.settings, name)) as producer, producer.transaction() as transaction:
            transaction.send([message])

    def send(self, *values: bytes | None, partition: int = 0, key: bytes = b"key", **more: str) -> None:
        producer = KafkaProducer(**self.settings.kafka_client())
        headers = [("traceparent", TRACE.encode()), ("who", SECRET.encode())]
        headers += [(name.replace("_", "-"), text.encode()) for name, text in more.items()]
        sent = [producer.send(self.topic, each, key, headers=headers, partition=partition) for each in values]
        for each in sent:
            each.get(timeout=30)
        producer.close()

    def answers(self) -> list[Record]:
        return read(self.settings, scored_topic(self.name))

    def troubles(self) -> list[PipelineTroubled]:
        told = [decode(each, PipelineTroubled) for each in read(self.settings, PIPELINE_TROUBLED.name)]
        return [each for each in told if each.pipeline == self.name]

    def over_grpc(self, channel: grpc.Channel, *values: bytes) -> list[dict[str, Any]]:
        """Return what the door for records answers."""
        sent = [SentRecord(value=each, key=b"key") for each in values]
        request = PredictRecordsRequest(model=self.name, records=sent)
        call: Any = channel.unary_unary("/headrace.inference.v1.RecordService/PredictRecords")
        answer = PredictRecordsResponse.FromString(call(request.SerializeToString(), timeout=60))
        found: list[dict[str, Any]] = to_plain(answer)["answers"]
        return found


def read(settings: KafkaSettings, topic: str) -> list[Record]:
    with LogReader(settings, "test") as reader:
        places = reader.partitions(topic)
        reader.start_at(dict.fromkeys(places))
        return [record for records in reader.read_to(reader.ends(places), stall_s=10) for record in records]


def plain(answers: Sequence[Record]) -> list[dict[str, Any]]:
    return [json.loads(each.value or b"") for each in answers]


def places(answers: Sequence[dict[str, Any]]) -> list[tuple[int, int, int]]:
    return sorted((each["record"]["partition"], each["record"]["offset"], each["record"]["line"]) for each in answers)


@pytest.fixture
def settings(broker: Platform, tmp_path: Path, forget_pipelines: Callable[[KafkaSettings], None]) -> Iterator[Settings]:
    settings = Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        kafka_session_timeout_ms=2_000,
        instance="here",
        listen_address="127.0.0.1:0",
        store_url=str(tmp_path / "store"),
        work_dir=tmp_path / "work",
        redis_url="",
        metrics_address="",
        drain_s=0.0,
        max_connection_age_s=0.0,
    )
    forget_pipelines(settings)
    yield settings
    forget_pipelines(settings)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is waited for told at once, and new partitions found within a second, instead of half a minute."""
    monkeypatch.setattr(scoring, "QUIET_S", 0.0)
    monkeypatch.setitem(consumers.READING, "metadata_max_age_ms", 1_000)


@contextmanager
def serving(settings: Settings) -> Iterator[grpc.Channel]:
    """Run the service in this process; yield a channel to it."""
    service = build(settings)
    service.start()
    try:
        (host,) = (part for part in service._components if isinstance(part, GrpcHost))
        with grpc.insecure_channel(f"127.0.0.1:{host.port}") as channel:
            yield channel
    finally:
        service.stop()
        assert service._failure is None


def test_each_record_has_one_answer_which_is_that_of_the_door(settings: Settings, until: Callable[..., None]) -> None:
    asked, private = Asked(settings), Asked(settings, REFERRING, PERSONAL, partitions=1)
    private.release(1)
    private.apply()
    asked.send(record(9.0), record(9.0), partition=1)
    with serving(settings) as channel:
        asked.apply()
        good, odd = record(1.0), [b"{broken", b'{"sensor": "s"}', record(float("nan")), b"", None]
        asked.send(good, *odd, good + b"\n\n" + b"no JSON" + b"\n" + record(2.0), partition=0)
        asked.send(*(record(float(at)) for at in range(300)), partition=1, key=b"other")
        until(lambda: asked.troubles())
        assert "waiting for the first release" in asked.troubles()[0].reason
        assert asked.troubles()[0].subject, "a pipeline that is trained for the first time needs no hand"
        assert asked.answers() == []
        asked.release(1)
        until(lambda: len(asked.answers()) >= 309)
        answers = asked.answers()
        found = plain(answers)
        # What was there before it was applied has none; a message with lines has one for each that is not blank.
        lines = [(0, offset, 0) for offset in range(6)] + [(0, 6, 0), (0, 6, 2), (0, 6, 3)]
        assert places(found) == lines + [(1, offset, 0) for offset in range(2, 302)]
        assert [each["record"] for each in found if each["record"]["partition"] == 0] == [
            {"topic": asked.topic, "partition": 0, "offset": offset, "line": line} for _, offset, line in lines
        ]
        assert {(each.partition, each.key) for each in answers} == {(0, b"key"), (1, b"other")}
        assert all(each.partition == told["record"]["partition"] for each, told in zip(answers, found, strict=True))
        # The very same as who sends them in a call.
        door = asked.over_grpc(channel, good, b"{broken", b'{"sensor": "s"}', record(float("nan")), b"")
        told = {tuple(each["record"].values())[2:]: each for each in found if each["record"]["partition"] == 0}
        for offset, expected in enumerate(door):
            kind = "outputs" if "outputs" in expected else "rejection"
            assert told[offset, 0][kind] == expected[kind]
        assert told[5, 0]["rejection"]["rule"]
        assert [told[6, line].get("outputs") for line in (0, 2, 3)] == [
            {"level": 1.9375},
            None,
            {"level": 2.4375},
        ]
        first = told[0, 0]
        assert (first["model"], first["version"], first["variant"]) == (asked.name, "1", "fp32")
        assert first["prediction_id"]
        assert first["row"] >= 0
        assert first["spec_digest"] == load_pipeline(asked.document).digest
        assert "prediction_id" not in told[1, 0]
        headers = [answers[0].header(name) for name in ("ce_type", "ce_source", "content-type", "traceparent", "who")]
        assert headers == ["headrace.record.scored.v1", "/inference", "application/json", TRACE, None]
        swaps(asked, until)
        grows(asked, until)
        leaves_out_what_is_personal(private, until)
        fetches_what_is_referred_to(private, until)
    with Admin(settings, "test") as admin:
        # A replica that stops gives its partitions back at once: a group with members could not be deleted.
        assert admin.delete_groups([asked.group]) == ([asked.group], [])


def swaps(asked: Asked, until: Callable[..., None]) -> None:
    """Versions change while records come: each is answered by one, and none by an older one than before."""
    asked.release(2)
    offset = 302

    def answered_by_the_next() -> bool:
        nonlocal offset
        asked.send(record(1.0), partition=1)
        offset += 1
        return plain(asked.answers())[-1]["version"] == "2"

    until(answered_by_the_next)
    until(lambda: places(plain(asked.answers()))[-1][1] == offset - 1)
    found = [each for each in plain(asked.answers()) if each["record"]["partition"] == 1][300:]
    assert [each["record"]["offset"] for each in found] == list(range(302, offset))
    versions = [each["version"] for each in found]
    assert versions == sorted(versions)
    assert all(each["outputs"] == {"level": 0.9375 + int(each["version"])} for each in found)


def grows(asked: Asked, until: Callable[..., None]) -> None:
    """A partition that the topic gets later is read whole; its answers wait until they have a place."""
    admin = KafkaAdminClient(**asked.settings.kafka_client())
    admin.create_partitions({asked.topic: 3})
    admin.close()
    asked.send(record(5.0), record(6.0), partition=2)
    with Admin(asked.settings, "test") as grower:
        grower.ensure_scored_topic(asked.name, 3)
    until(lambda: [each for each in asked.answers() if each.partition == 2][1:])
    assert places(plain(asked.answers()))[-2:] == [(2, 0, 0), (2, 1, 0)]


def leaves_out_what_is_personal(asked: Asked, until: Callable[..., None]) -> None:
    """An answer names the place of its record, and tells nothing that could be personal."""
    sent = [
        record(1.0, note=f"{SECRET}@example.org"),
        record(1.0) + SECRET.encode(),
        json.dumps({"sensor": SECRET, "payload": {"levels": [SECRET]}}).encode(),
        json.dumps({"sensor": SECRET, "payload": {"levels": [1, 2, 3, 1e39]}, "note": 7}).encode(),
    ]
    asked.send(*sent, key=SECRET.encode())
    until(lambda: len(asked.answers()) >= len(sent))
    answers = asked.answers()
    assert places(plain(answers)) == [(0, offset, 0) for offset in range(len(sent))]
    assert ["outputs" in each for each in plain(answers)] == [True, False, False, False]
    assert {each.key for each in answers} == {None}
    assert SECRET not in repr(answers).lower()


def fetches_what_is_referred_to(asked: Asked, until: Callable[..., None]) -> None:
    """A record without a value has the answer to what it refers to."""
    before = len(asked.answers())
    ObjectStore(asked.settings.store_url).write("payloads/levels/a.json", record(8.0))
    for name in ("a", "none"):
        digest = f"sha256:{hashlib.sha256(record(8.0)).hexdigest()}"
        asked.send(None, headrace_ref=f"levels/{name}.json", headrace_ref_digest=digest)
    until(lambda: len(asked.answers()) >= before + 2)
    there, missing = plain(asked.answers())[before:]
    assert (there["outputs"], missing["rejection"]["rule"]) == ({"level": 5.4375}, "reference")


class Elsewhere:
    """A replica in a process of its own, which is held within a span and killed there."""

    def __init__(self, settings: Settings, folder: Path, until: Callable[..., None]) -> None:
        self._until, self._log = until, folder / "log"
        self._holds = folder / "holds" / "inference"
        self._holds.mkdir(parents=True)
        chosen = {
            "kafka_bootstrap_servers": settings.kafka_bootstrap_servers,
            "kafka_session_timeout_ms": settings.kafka_session_timeout_ms,
            "instance": "elsewhere",
            "listen_address": "127.0.0.1:0",
            "store_url": settings.store_url,
            "work_dir": folder / "elsewhere",
            "redis_url": "",
            "metrics_address": "",
            "trace_sample_ratio": 1,
            "hold_dir": folder / "holds",
        }
        self._environment = os.environ | {f"HEADRACE_{key.upper()}": str(value) for key, value in chosen.items()}

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "headrace_inference"]
            process = subprocess.Popen(command, env=self._environment, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            for held in self._holds.glob("*.held"):
                held.unlink()

    def arm(self, span: str) -> None:
        (self._holds / span).touch()

    def wait_held(self, span: str) -> None:
        self._until((self._holds / f"{span}.held").exists)

    def let_go(self, span: str) -> None:
        (self._holds / f"{span}.held").unlink()


def test_replicas_are_killed_amid_records_and_another_answers_each_once(
    settings: Settings, until: Callable[..., None], tmp_path: Path
) -> None:
    asked, count = Asked(settings), 500
    asked.release(1)
    asked.apply()
    for partition in (0, 1):
        asked.send(*(record(float(at)) for at in range(count)), partition=partition)
    elsewhere = Elsewhere(settings, tmp_path, until)
    elsewhere.arm("commit")
    with elsewhere.running():
        elsewhere.wait_held("commit")
        elsewhere.arm("commit")
        elsewhere.let_go("commit")
        until(asked.answers)
        elsewhere.wait_held("commit")
    # What it had open is aborted by its successor of the same name, which is killed before it has a transaction.
    elsewhere.arm("read")
    with elsewhere.running():
        elsewhere.wait_held("read")
    before = len(asked.answers())
    assert 0 < before < 2 * count
    with serving(settings):
        until(lambda: len(asked.answers()) >= 2 * count)
    answers = plain(asked.answers())
    assert Counter(places(answers)) == Counter((each, at, 0) for each in (0, 1) for at in range(count))
    assert all(each["outputs"]["level"] == pytest.approx(each["record"]["offset"] / 2 + 1.4375) for each in answers)
