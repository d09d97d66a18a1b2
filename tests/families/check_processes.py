"""Training in several processes, by each strategy: the weights of one, and one fact whatever of it is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest
from headrace.events.v1 import artifact_pb2, model_pb2, pipeline_pb2, run_pb2
from headrace_data.folder import FileRef, Folder
from headrace_data.spec import Budget, Pipeline, load_pipeline
from headrace_runtime.kafka import LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.process.cores import available_cores
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.telemetry.hold import CHILD_VARIABLE, Held
from headrace_runtime.topics import MODEL_TRAINED, RUN_FAILED, RUN_PROGRESSED
from headrace_trainer.child import alone

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from groups import (  # noqa: E402 - found through the line above
    DOCUMENT,
    NEAR,
    Lane,
    Quiet,
    declared,
    distance,
    frozen,
    lane_in,
    ranks,
    two,
    until,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from headrace_local.launcher import Platform

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(available_cores() < 2, reason="a process of a group has a core of its own"),
]

STRATEGIES = ("ddp", "fsdp", "tensor")


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    return lane_in(tmp_path)


@contextmanager
def started(assignment: Mapping[str, Any], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    strict = ["-W", "error", "-W", "ignore::ResourceWarning"]
    with subprocess.Popen(
        [sys.executable, *strict, "-m", "headrace_trainer.child", assignment["file"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    ) as child:
        yield child


def run(assignment: Mapping[str, Any], **environment: str) -> tuple[list[dict[str, Any]], int]:
    """Run a child to its end; return its lines and its code."""
    with started(assignment, **environment) as child:
        assert child.stdout is not None
        lines = [json.loads(line) for line in child.stdout]
        return lines, child.wait()


@pytest.fixture
def expected(lane: Lane) -> Mapping[str, Any]:
    return alone(lane.assignment(declared("{device: cpu}"), "alone"), Quiet())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_learn_what_one_does(lane: Lane, expected: Mapping[str, Any], strategy: str) -> None:
    lines, code = run(lane.assignment(two(strategy), "together"))
    assert code == 0
    result = lane.result("together")
    print(f"{strategy}: {distance(lane.weights(expected), lane.weights(result)):.1e} from one process")
    assert distance(lane.weights(expected), lane.weights(result)) < NEAR[strategy]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert result["metrics"]["accuracy"] == pytest.approx(expected["metrics"]["accuracy"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_process_goes_on_where_two_were_killed(lane: Lane, expected: Mapping[str, Any], strategy: str) -> None:
    (holds := lane.folder / "holds").mkdir()
    (holds / "step-2").touch()
    with started(lane.assignment(two(strategy), "moved"), **{CHILD_VARIABLE: str(holds)}) as child:
        until("the process that leads is held", (holds / "step-2.held").exists)
        left = ranks(psutil.Process(child.pid))
        assert len(left) == 2
        child.kill()
        until("no process is left", lambda: not any(each.is_running() for each in left))
    steps = Quiet()
    result = alone(lane.assignment(two(strategy), "moved", attempt=2), steps)
    assert steps.steps == [3, 4]
    assert distance(lane.weights(expected), lane.weights(result)) < NEAR[strategy]


def test_two_processes_go_on_where_one_was_killed(lane: Lane, expected: Mapping[str, Any]) -> None:
    class Killed(Quiet):
        def progress(self, step: int, *_: Any) -> None:
            if step == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        alone(lane.assignment(two("fsdp"), "moved"), Killed())
    lines, code = run(lane.assignment(two("fsdp"), "moved", attempt=2))
    assert code == 0
    assert [line["step"] for line in lines] == [3, 4]
    assert distance(lane.weights(expected), lane.weights(lane.result("moved"))) < NEAR["fsdp"]


def changed(pipeline: Pipeline, **changes: Any) -> Pipeline:
    return pipeline.model_copy(update={"train": pipeline.train.model_copy(update=changes)})


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_group_with_dropout_goes_on_within_an_epoch_as_if_never_stopped(lane: Lane, strategy: str) -> None:
    """Each process takes up what its generator had drawn."""
    network = two(strategy).train.network.model_copy(update={"dropout": 0.3})
    # Steps enough that processes ask several times within an epoch whether a checkpoint is due: each half second.
    pipeline = changed(two(strategy), network=network, epochs=6, batch_size=2)
    often = 1e-6  # seconds: after each question whether one is due
    _, code = run(lane.assignment(pipeline, "straight", checkpoint_s=often))
    assert code == 0
    (holds := lane.folder / "holds").mkdir()
    (holds / "step-2").touch()
    with started(lane.assignment(pipeline, "stopped", checkpoint_s=often), **{CHILD_VARIABLE: str(holds)}) as child:
        until("the process that leads is held", (held := holds / "step-2.held").exists)
        held.unlink()  # it goes on, and is killed in the midst of what follows
        folder = lane.folder / "store" / "runs" / "stopped" / "attempt-1"
        until("a checkpoint within an epoch", lambda: _midway(folder))
        child.kill()
    assert lane.store.read("runs/stopped/result.json") is None
    _, code = run(lane.assignment(pipeline, "stopped", 2, often))
    assert code == 0
    straight, stopped = (lane.weights(lane.result(name)) for name in ("straight", "stopped"))
    assert distance(straight, stopped) == 0


def _midway(folder: Path) -> bool:
    """Return whether a checkpoint of the third epoch, or a later one, is kept."""
    told = []
    for file in folder.glob("checkpoint-*.json"):
        with suppress(ValueError, OSError):
            told.append(json.loads(file.read_bytes()))
    return any(each["epoch"] >= 2 and each["midway"] for each in told)


def test_processes_spend_one_budget_and_stop_together(lane: Lane) -> None:
    budget = Budget.model_validate({"cpu": "1s"})
    lines, code = run(lane.assignment(changed(two("ddp"), budget=budget, epochs=100_000), "spent"))
    assert code == 0
    assert len(lines) < 100_000
    assert lane.result("spent")["epochs"] == lines[-1]["step"]


def test_what_is_wrong_with_the_work_is_told_once(lane: Lane) -> None:
    wild = DOCUMENT.replace("learningRate: 0.01, clip: 0.5", "learningRate: 10, weightDecay: 1")
    wild = wild.replace("adamw", "sgd").replace("epochs: 4", "epochs: 20")
    compute = "{device: cpu, processes: 2}"
    lines, code = run(lane.assignment(load_pipeline(wild.replace("COMPUTE", compute)), "wild"))
    assert code == 64
    assert "try a lower train.optimizer.learningRate" in lines[-1]["error"]


@contextmanager
def trainer(platform: Platform, lane: Lane, holds: Path) -> Iterator[psutil.Process]:
    """A trainer's worker; whatever is left of it ends with the block."""
    environment = {
        "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": platform.bootstrap_servers,
        "HEADRACE_KAFKA_SESSION_TIMEOUT_MS": "6000",
        "HEADRACE_STORE_URL": lane.store.url,
        "HEADRACE_WORK_DIR": str(lane.folder / "work"),
        "HEADRACE_METRICS_ADDRESS": "",
        "HEADRACE_CHECKPOINT_S": "0",
        "HEADRACE_STANDBY": "false",
        "HEADRACE_HOLD_DIR": str(holds),
    }
    with subprocess.Popen([sys.executable, "-m", "headrace_trainer"], env={**os.environ, **environment}) as worker:
        try:
            yield psutil.Process(worker.pid)
        finally:
            worker.terminate()


def facts(settings: KafkaSettings, topic: str, kind: type[Message], run_id: str) -> list[Any]:
    with LogReader(settings, "check") as reader:
        places = reader.partitions(topic)
        reader.start_at(dict.fromkeys(places))
        records = [record for batch in reader.read_to(reader.ends(places), stall_s=10) for record in batch]
    found: list[Any] = [decode(record, kind) for record in records]
    return [message for message in found if message.run_id == run_id]


@pytest.mark.parametrize("victim", ["rank", "agent", "worker"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_fact_follows_whatever_is_killed(
    broker: Platform, lane: Lane, expected: Mapping[str, Any], strategy: str, victim: str
) -> None:
    settings, run_id = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers), f"{strategy}-{victim}"
    command = run_pb2.TrainingRequested(
        run_id=run_id,
        pipeline="together",
        spec=pipeline_pb2.PipelineSpec(json=two(strategy).canonical_json()),
        dataset=run_pb2.DatasetReference(
            dataset_id=lane.dataset["dataset_id"], manifest=artifact_pb2.Artifact(**lane.dataset["manifest"])
        ),
    )
    with closing(TransactionalProducer(settings, "check")) as producer, producer.transaction() as transaction:
        transaction.send([encode(command, source="check")])
    holds = lane.folder / "holds"
    (holds / "trainer").mkdir(parents=True)
    (holds / "trainer" / "step-2").touch()
    with trainer(broker, lane, holds) as worker:
        until("the process that leads is held", (held := holds / "trainer" / "step-2.held").exists)
        group = ranks(worker)
        (agent,) = {each.ppid() for each in group}
        (other,) = {each.pid for each in group} - {Held.read(held).pid}
        os.kill({"rank": other, "agent": agent, "worker": worker.pid}[victim], signal.SIGKILL)
        until("the group ends", lambda: not any(each.is_running() for each in group))
        if victim != "worker":
            fact = until("a fact", lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
    if victim == "worker":
        with trainer(broker, lane, holds):
            fact = until("a fact", lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
    (trained,) = fact
    assert trained.attempt == 2
    assert not facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id)
    progress = facts(settings, RUN_PROGRESSED.name, run_pb2.RunProgressed, run_id)
    assert [each.step for each in progress if each.attempt == 2] == [3, 4], "it goes on from the checkpoint"
    weights = lane.weights({"weights": {name.name: value for name, value in trained.weights.ListFields()}})
    assert distance(lane.weights(expected), weights) < NEAR[strategy]


TEXTS = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: reviews}}
stream:
  topic: reviews
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: review, type: string, role: feature}}
    - {{name: mood, type: string, role: label}}
prepare: {{transform: {{review: {{encode: text}}}}}}
train:
  network: {{kind: encoder, digest: "{digest}", sizeBytes: {size}, length: 16, tune: {tune}}}
  optimizer: {{kind: momentum, learningRate: 0.01}}
  epochs: 2
  batchSize: 16
  compute: {{device: cpu{compute}}}
"""


@pytest.mark.parametrize(
    ("strategy", "tune"), [("ddp", "lora"), ("fsdp", "lora"), ("ddp", "full"), ("fsdp", "full"), ("tensor", "full")]
)
def test_two_processes_tune_an_encoder_as_one_does(tiny_bert: Path, tmp_path: Path, strategy: str, tune: str) -> None:
    store = ObjectStore(str(tmp_path / "store"))
    kept = {path.name: path.read_bytes() for path in tiny_bert.iterdir()}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # each process would draw its own
    kept["config.json"] = json.dumps({**json.loads(kept["config.json"]), **dropout}).encode()
    files = {name: store.put(data) for name, data in kept.items()}
    folder = Folder({name: FileRef(file.digest, file.size_bytes) for name, file in files.items()}).to_json()
    digest = store.put(folder).digest

    def reviews(compute: str) -> Pipeline:
        return load_pipeline(TEXTS.format(digest=digest, size=len(folder), tune=tune, compute=compute))

    drawn, records = random.Random(1), []
    for number in range(150):
        words = drawn.choices(["good", "great"] if number % 2 else ["bad", "awful"], k=drawn.randrange(1, 5))
        text = f"a film so {' '.join(words)}"
        records.append(json.dumps({"id": number, "review": text, "mood": str(number % 2)}).encode())
    lane = Lane(store, tmp_path, frozen(reviews(""), store, records))
    expected = alone(lane.assignment(reviews(""), "alone"), Quiet())
    _, code = run(lane.assignment(reviews(f", processes: 2, strategy: {strategy}"), "together"))
    assert code == 0
    apart = distance(lane.weights(expected), lane.weights(lane.result("together")))
    print(f"{strategy}, {tune}: {apart:.1e} from one process")
    assert apart < NEAR[strategy]
