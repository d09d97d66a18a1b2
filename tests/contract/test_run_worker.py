"""A worker with real children on a real broker: one fact for each command, whatever dies in between."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from headrace.events.v1 import model_pb2, pipeline_pb2, run_pb2
from headrace_runtime.kafka import Admin, EventProducer, LogReader, TransactionalProducer
from headrace_runtime.messages import decode, encode
from headrace_runtime.run_worker import Job, RunWorker
from headrace_runtime.settings import WorkerSettings
from headrace_runtime.topics import MODEL_TRAINED, RUN_FAILED, RUN_PROGRESSED, TRAINING_REQUESTED
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import MemberToRemove
from kafka.structs import OffsetAndMetadata

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract

GROUP = "test-worker"


@pytest.fixture(scope="module", autouse=True)
def _begins_here(broker: Platform) -> None:
    """Let the worker begin behind the commands that other tests left on the same broker."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, group_id=GROUP, enable_auto_commit=False)
    places = [TopicPartition(TRAINING_REQUESTED.name, number) for number in range(TRAINING_REQUESTED.partitions)]
    consumer.assign(places)
    ends = consumer.end_offsets(places).items()
    consumer.commit({place: OffsetAndMetadata(end, "", -1) for place, end in ends})
    consumer.close()


@pytest.fixture
def settings(broker: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerSettings:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "children"))
    return WorkerSettings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        metrics_address="",
        kafka_session_timeout_ms=6_000,
        store_url=str(tmp_path / "store"),
        work_dir=tmp_path / "work",
        max_failures=2,
    )


def _fact(command: run_pb2.TrainingRequested, result: dict[str, Any]) -> model_pb2.ModelTrained:
    return model_pb2.ModelTrained(
        run_id=command.run_id, model="m", version_id=result["version"], attempt=result["attempt"]
    )


JOB = Job(
    run_pb2.TrainingRequested,
    run_pb2.RUN_KIND_TRAINING,
    "worker_child",
    lambda command: json.loads(command.spec.json),
    _fact,
)


@contextmanager
def worker(settings: WorkerSettings) -> Iterator[RunWorker[run_pb2.TrainingRequested]]:
    events = EventProducer(settings, "test")
    running = RunWorker(GROUP, JOB, settings, events)
    events.start()
    running.start()
    try:
        yield running
    finally:
        running.stop()
        events.stop()


def command(settings: WorkerSettings, behaviour: str, flag: Path | None = None) -> str:
    run_id = f"train-{uuid.uuid4()}"
    spec = pipeline_pb2.PipelineSpec(json=json.dumps({"behaviour": behaviour, "flag": str(flag)}).encode())
    message = run_pb2.TrainingRequested(run_id=run_id, pipeline="p", spec=spec)
    with closing(TransactionalProducer(settings, run_id)) as producer, producer.transaction() as transaction:
        transaction.send([encode(message, source="test")])
    return run_id


def facts(settings: WorkerSettings, topic: str, message_class: type[Message], run_id: str) -> list[Any]:
    with LogReader(settings, "test") as reader:
        places = reader.partitions(topic)
        reader.start_at(dict.fromkeys(places))
        records = [record for batch in reader.read_to(reader.ends(places), stall_s=10) for record in batch]
    found: list[Any] = [decode(record, message_class) for record in records]
    return [message for message in found if message.run_id == run_id]


def test_a_run_ends_in_one_fact_after_its_progress(
    settings: WorkerSettings, tmp_path: Path, until: Callable[..., None]
) -> None:
    run_id = command(settings, "fine")
    with worker(settings):
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
    (fact,) = facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id)
    assert (fact.version_id, fact.attempt) == (f"v-{run_id}", 1)
    progress = facts(settings, RUN_PROGRESSED.name, run_pb2.RunProgressed, run_id)
    assert [(item.step, item.steps) for item in progress] == [(1, 2), (2, 2)]
    assert progress[1].metrics["train_loss"] == pytest.approx(0.1)


def test_a_worker_that_has_done_everything_has_no_lag(settings: WorkerSettings, until: Callable[..., None]) -> None:
    """What scales on lag sees a run as two messages, until it has ended, and then as none."""

    def written() -> int:
        with Admin(settings, "test") as admin:
            partitions = range(admin.partitions_of(TRAINING_REQUESTED.name))
            return sum(admin.written_ends((TRAINING_REQUESTED.name, number) for number in partitions).values())

    def lag() -> int:
        with Admin(settings, "test") as admin:
            return sum(lag.messages for lag in admin.lags() if lag.group == GROUP)

    before = written()
    run_id = command(settings, "fine")
    until(lambda: written() - before == 2)
    with worker(settings):
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
        until(lambda: lag() == 0)


@pytest.mark.parametrize(
    ("behaviour", "reason", "attempt"),
    [
        ("refuse", "network: expected a number of classes above 1, got 1", 1),
        ("crash", "OSError: the disk is full", 2),
    ],
)
def test_a_run_that_cannot_succeed_ends_with_its_reason(
    settings: WorkerSettings, tmp_path: Path, behaviour: str, reason: str, attempt: int, until: Callable[..., None]
) -> None:
    run_id = command(settings, behaviour)
    with worker(settings):
        until(lambda: facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id))
    (fact,) = facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id)
    assert (fact.reason, fact.attempt, fact.kind) == (reason, attempt, run_pb2.RUN_KIND_TRAINING)
    assert not facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id)


def test_a_fault_that_passes_is_tried_again(
    settings: WorkerSettings, tmp_path: Path, until: Callable[..., None]
) -> None:
    run_id = command(settings, "crash once")
    with worker(settings):
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
    (fact,) = facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id)
    assert fact.attempt == 2
    assert not facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id)


def test_a_run_goes_on_after_its_worker_was_stopped(
    settings: WorkerSettings, tmp_path: Path, until: Callable[..., None]
) -> None:
    flag = tmp_path / "hangs"
    run_id = command(settings, "hang once", flag)
    with worker(settings):
        until(flag.exists)
    assert not facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id)
    with worker(settings):
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
    (fact,) = facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id)
    assert fact.attempt == 2


def test_a_worker_that_was_thrown_out_goes_on_with_this_command_and_the_next(
    settings: WorkerSettings, tmp_path: Path, until: Callable[..., None]
) -> None:
    flag = tmp_path / "hangs"
    first, second = command(settings, "hang once", flag), command(settings, "fine")
    with worker(settings), closing(KafkaAdminClient(**settings.kafka_client())) as admin:
        until(flag.exists)
        member = f"{GROUP}.{settings.instance}"
        admin.remove_group_members(GROUP, [MemberToRemove(group_instance_id=member)])
        for run_id in (first, second):
            until(lambda run_id=run_id: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
        third = command(settings, "fine")
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, third))
    found = [facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id) for run_id in (first, second, third)]
    assert [[fact.attempt for fact in of_run] for of_run in found] == [[2], [1], [1]]
