"""A worker with real children on a real broker: one fact for each command, whatever dies in between."""

from __future__ import annotations

import json
import logging
import random
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from headrace.events.v1 import model_pb2, pipeline_pb2, run_pb2
from headrace_runtime.kafka import Admin, EventProducer, LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.records import Outgoing
from headrace_runtime.runs.folder import MOST_ATTEMPTS, RunFolder, output_prefix, result_name
from headrace_runtime.runs.worker import COMMANDS_PASSED_OVER, Job, RunWorker
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
    begin_at_the_end(broker.bootstrap_servers, GROUP)


def begin_at_the_end(servers: str, group: str, before_end: int = 0) -> None:
    """Commit the ends of all partitions, that of the first by so many offsets before; the group has no member."""
    consumer = KafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)
    places = [TopicPartition(TRAINING_REQUESTED.name, number) for number in range(TRAINING_REQUESTED.partitions)]
    consumer.assign(places)
    ends = consumer.end_offsets(places).items()
    offsets = {place: end - before_end * (place.partition == 0) for place, end in ends}
    consumer.commit({place: OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()})
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
def worker(settings: WorkerSettings, group: str = GROUP, *more: Job[Any]) -> Iterator[RunWorker]:
    events = EventProducer(settings, "test")
    running = RunWorker(group, JOB, settings, events, *more)
    events.start()
    running.start()
    try:
        yield running
    finally:
        running.stop()
        events.stop()


def command(
    settings: WorkerSettings,
    behaviour: str,
    flag: Path | None = None,
    run_id: str | None = None,
    spec: bytes | None = None,
) -> str:
    message = request(behaviour, flag, run_id, spec)
    send(settings, encode(message, source="test"))
    return message.run_id


def request(
    behaviour: str, flag: Path | None = None, run_id: str | None = None, spec: bytes | None = None
) -> run_pb2.TrainingRequested:
    run_id = f"train-{uuid.uuid4()}" if run_id is None else run_id
    spec = json.dumps({"behaviour": behaviour, "flag": str(flag)}).encode() if spec is None else spec
    return run_pb2.TrainingRequested(run_id=run_id, pipeline="p", spec=pipeline_pb2.PipelineSpec(json=spec))


def send(settings: WorkerSettings, message: Outgoing) -> None:
    with closing(TransactionalProducer(settings, "test-commands")) as producer, producer.transaction() as transaction:
        transaction.send([message])


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


def test_a_marker_in_another_partition_is_no_lag_after_a_run(
    settings: WorkerSettings, until: Callable[..., None]
) -> None:
    """The run's lease and the commits past markers both must know which partitions came."""
    first, second = (encode(request("fine"), source="test") for _ in range(2))
    send(settings, replace(first, partition=0))
    # Behind the command, and before the marker of its transaction.
    begin_at_the_end(settings.kafka_bootstrap_servers, group := f"{GROUP}-{uuid.uuid4()}", before_end=1)
    send(settings, replace(second, partition=1))
    with worker(settings, group), Admin(settings, "test") as admin:
        until(lambda: sum(lag.messages for lag in admin.lags() if lag.group == group) == 0)


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
    settings = settings.model_copy(update={"max_deaths": 1})
    flag = tmp_path / "hangs"
    run_id = command(settings, "hang once", flag)
    with worker(settings):
        until(flag.exists)
    assert not facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id)
    with worker(settings):
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
    (fact,) = facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id)
    assert fact.attempt == 2


def test_a_worker_that_was_thrown_out_keeps_its_attempt_and_goes_on_with_the_next(
    settings: WorkerSettings, tmp_path: Path, until: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headrace_runtime.runs.lease")
    flag = tmp_path / "held"
    first, second = command(settings, "hold", flag), command(settings, "fine")
    with worker(settings), closing(KafkaAdminClient(**settings.kafka_client())) as admin:
        until(flag.exists)
        for returns in (1, 2):
            member = f"{GROUP}.{settings.instance}"
            admin.remove_group_members(GROUP, [MemberToRemove(group_instance_id=member)])
            until(lambda returns=returns: caplog.text.count("the partition is back") == returns)
        flag.with_suffix(".released").touch()
        for run_id in (first, second):
            until(lambda run_id=run_id: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
        third = command(settings, "fine")
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, third))
    found = [facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id) for run_id in (first, second, third)]
    assert [[fact.attempt for fact in of_run] for of_run in found] == [[1], [1], [1]]


BAD_IDS = ["", "..", "../../etc", "a/b", "nul\0", "x" * 300, "dot\u0661", "line\n"]


def test_commands_that_cannot_be_carried_out_end_in_one_fact_each(
    settings: WorkerSettings, until: Callable[..., None]
) -> None:
    """Nothing of what is in a command ends the worker, and the next command is carried out."""
    ids = [command(settings, "fine", run_id=f"{run_id}") for run_id in BAD_IDS]
    not_text = command(settings, "", spec=b'{"a": "\xff"}')
    before = COMMANDS_PASSED_OVER.labels(TRAINING_REQUESTED.name)._value.get()
    send(settings, Outgoing(TRAINING_REQUESTED.name, b"k", b"\xff no command"))
    fine = command(settings, "fine")
    with worker(settings) as running:
        failures: list[BaseException] = []
        running.on_failure = failures.append
        for run_id in (*ids, not_text):
            until(lambda run_id=run_id: failures or facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id))
        until(lambda: failures or facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, fine))
        until(lambda: failures or COMMANDS_PASSED_OVER.labels(TRAINING_REQUESTED.name)._value.get() == before + 1)
    assert not failures
    for run_id in ids:
        (fact,) = facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id)
        assert fact.reason.startswith("run id: expected 1 to 128 letters, digits, dots, hyphens and underscores")
    (fact,) = facts(settings, RUN_FAILED.name, run_pb2.RunFailed, not_text)
    assert "'utf-8' codec can't decode byte 0xff" in fact.reason
    assert not (settings.work_dir.parent.parent / "etc").exists()


def flipped(data: bytes) -> bytes:
    """Return the data with one digit of the result's version changed: JSON as before, and another result."""
    place = data.index(b'"version":"v-train-') + len(b'"version":"v-train-')
    return data[:place] + (b"0" if data[place : place + 1] != b"0" else b"1") + data[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        flipped,
        lambda data: data[: len(data) // 2],
        lambda _: b"",
        lambda _: b"[" * 100_000,
        lambda _: b'{"version": "v-old"}',
        lambda _: b"\x00\xff",
    ],
)
def test_a_result_that_is_not_what_a_child_wrote_is_made_again(
    settings: WorkerSettings, spoil: Callable[[bytes], bytes], until: Callable[..., None]
) -> None:
    run_id = f"train-{uuid.uuid4()}"
    store = ObjectStore(settings.store_url)
    RunFolder(store, run_id).write_result({"version": f"v-{run_id}", "run_id": run_id, "attempt": 1})
    store.write(result_name(run_id), spoil(store.read(result_name(run_id)) or b""))
    for stray in ("attempt-x/assignment.json", "attempt-0/a", "attempt-99999999999/a", "attempt-\u0663/a", "notes.txt"):
        store.write(f"runs/{run_id}/{stray}", b"{}")
    store.write(f"{output_prefix(run_id, 3)}assignment.json", b"[")
    command(settings, "fine", run_id=run_id)
    with worker(settings):
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
    (fact,) = facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id)
    assert (fact.version_id, fact.attempt) == (f"v-{run_id}", 4)
    assert not facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id)


def in_the_way(store: ObjectStore, run_id: str) -> None:
    store.write(f"runs/{run_id}", b"")


def in_the_way_of_the_result(store: ObjectStore, run_id: str) -> None:
    store.write(f"{result_name(run_id)}/a", b"")


def at_the_last_attempt(store: ObjectStore, run_id: str) -> None:
    store.write(f"{output_prefix(run_id, MOST_ATTEMPTS)}a", b"")


def ended_in_no_text(store: ObjectStore, run_id: str) -> None:
    for attempt in (1, 2):
        store.write(f"{output_prefix(run_id, attempt)}end.json", b'{"ending": "failed", "reason": "\\ud800"}')


def ended_in_too_much(store: ObjectStore, run_id: str) -> None:
    noise = b64encode(random.Random(1).randbytes(1_200_000)).decode()
    RunFolder(store, run_id).write_result({"version": noise, "run_id": run_id, "attempt": 1})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (in_the_way, "something else lies in the way"),
        (in_the_way_of_the_result, "something else lies in the way"),
        (at_the_last_attempt, "expected attempts up to 999999999"),
        (ended_in_no_text, "?"),
        (ended_in_too_much, "the result makes an event of 1600"),
    ],
)
def test_whatever_lies_in_a_runs_folder_ends_in_one_fact(
    settings: WorkerSettings, spoil: Callable[[ObjectStore, str], None], reason: str, until: Callable[..., None]
) -> None:
    run_id = command(settings, "fine")
    store = ObjectStore(settings.store_url)
    spoil(store, run_id)
    if spoil is ended_in_no_text:
        begun = json.dumps({"command": coordinates(settings, run_id)}).encode()
        for attempt in (1, 2):
            store.write(f"{output_prefix(run_id, attempt)}assignment.json", begun)
    with worker(settings) as running:
        failures: list[BaseException] = []
        running.on_failure = failures.append
        until(lambda: failures or facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id))
    assert not failures
    (fact,) = facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id)
    assert reason in fact.reason


@pytest.mark.parametrize("behaviour", ["no fact", "no result"])
def test_a_run_whose_result_is_never_one_is_given_up(
    settings: WorkerSettings, behaviour: str, until: Callable[..., None]
) -> None:
    run_id = command(settings, behaviour)
    with worker(settings.model_copy(update={"max_deaths": 2})):
        until(lambda: facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id))
    (fact,) = facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id)
    assert fact.attempt == 2
    assert "2 attempts came to no end" in fact.reason
    assert not facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id)


def coordinates(settings: WorkerSettings, run_id: str) -> str:
    """Return where the command of a run lies."""
    with LogReader(settings, "test") as reader:
        places = reader.partitions(TRAINING_REQUESTED.name)
        reader.start_at(dict.fromkeys(places))
        records = [record for batch in reader.read_to(reader.ends(places), stall_s=10) for record in batch]
    return next(record.coordinates for record in records if record.key == run_id.encode())


def test_a_run_that_kills_its_worker_again_and_again_is_given_up_unless_it_gets_on(
    settings: WorkerSettings, until: Callable[..., None]
) -> None:
    """A worker that was killed leaves an attempt without an end."""
    settings = settings.model_copy(update={"max_deaths": 3})
    hopeless, gets_on = command(settings, "fine"), command(settings, "fine")
    store = ObjectStore(settings.store_url)
    for run_id in (hopeless, gets_on):
        begun = json.dumps({"command": coordinates(settings, run_id)}).encode()
        for attempt in (1, 2, 3):
            RunFolder(store, run_id).begin(attempt, begun)
    store.write(f"{output_prefix(gets_on, 2)}checkpoint-0.json", b"{}")
    with worker(settings):
        until(lambda: facts(settings, RUN_FAILED.name, run_pb2.RunFailed, hopeless))
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, gets_on))
        # Asked for once more, as after the worker was given more memory, it has all its attempts.
        command(settings, "fine", run_id=hopeless)
        until(lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, hopeless))
    (failed,) = facts(settings, RUN_FAILED.name, run_pb2.RunFailed, hopeless)
    assert failed.attempt == 3
    assert "3 attempts came to no end and no newer checkpoint" in failed.reason
    assert [each.attempt for each in facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, hopeless)] == [4]
    assert not [*settings.work_dir.rglob("*.json"), *Path(settings.store_url).rglob("checkpoint*")], "leftovers"
