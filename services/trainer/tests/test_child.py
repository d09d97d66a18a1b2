"""Whole training runs in real child processes, on the scanned digits."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_data.spec import MlpNetwork, Pipeline
from headrace_learning.evaluation import evaluate
from headrace_runtime.child import ABANDONED, DONE, REFUSED, Failure, Progress, output_prefix, parse_line, result_name
from headrace_runtime.object_store import Artifact, ObjectStore

Freeze = Callable[[Pipeline], Manifest]
Begin = Callable[[Pipeline, str], "Run"]
LIMIT_S = 15.0


class Run:
    """Starts children for one run and reads what they leave."""

    def __init__(self, store: ObjectStore, folder: Path, pipeline: Pipeline, dataset: Manifest, run_id: str) -> None:
        self.store = store
        self.pipeline = pipeline
        self.dataset = dataset
        self.run_id = run_id
        self._folder = folder
        self._manifest = store.put(dataset.to_json())

    def start(self, attempt: int = 1) -> "subprocess.Popen[bytes]":
        assignment = {
            "run_id": self.run_id,
            "attempt": attempt,
            "store_url": self.store.url,
            "output": output_prefix(self.run_id, attempt),
            "spec": self.pipeline.canonical_json().decode(),
            "dataset": {"dataset_id": self.dataset.dataset_id, "manifest": asdict(self._manifest)},
        }
        file = self._folder / f"{self.run_id}-{attempt}.json"
        file.write_text(json.dumps(assignment))
        command = [sys.executable, "-W", "error", "-m", "headrace_trainer.child", str(file)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def finish(self, attempt: int = 1) -> tuple[int, list[Progress | Failure]]:
        with self.start(attempt) as child:
            assert child.stdout is not None
            lines = [parse_line(line) for line in child.stdout]
            return child.wait(), lines

    @property
    def result(self) -> dict[str, Any] | None:
        data = self.store.read(result_name(self.run_id))
        return None if data is None else json.loads(data)

    def artifact(self, name: str) -> bytes:
        assert self.result is not None
        return self.store.get(Artifact(**self.result[name]))


@pytest.fixture
def begin(store: ObjectStore, tmp_path: Path, freeze: Freeze) -> Begin:
    return lambda pipeline, run_id: Run(store, tmp_path, pipeline, freeze(pipeline), run_id)


def _with_training(pipeline: Pipeline, **changes: Any) -> Pipeline:
    return pipeline.model_copy(update={"train": pipeline.train.model_copy(update=changes)})


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_run_gives_the_same_good_version_whether_it_was_stopped_or_not(begin: Begin, digits: Pipeline) -> None:
    straight, stopped = begin(digits, "straight"), begin(digits, "stopped")

    # Processor time, because the machine may have other work.
    before = _children_cpu_s()
    code, lines = straight.finish()
    seconds = _children_cpu_s() - before

    result = straight.result
    assert code == DONE
    assert result is not None
    assert seconds < LIMIT_S
    assert result["metrics"]["accuracy"] >= 0.97
    assert _steps(lines) == list(range(1, result["epochs"] + 1))
    assert all(0 <= line.metrics["validation_accuracy"] <= 1 for line in lines if isinstance(line, Progress))
    _check_version(straight, result)

    with stopped.start(attempt=1) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for _ in range(3):
            assert isinstance(parse_line(child.stdout.readline()), Progress)
        child.stdin.close()
        assert child.wait(timeout=30) == ABANDONED
    assert stopped.result is None
    code, lines = stopped.finish(attempt=2)

    assert code == DONE
    assert stopped.result is not None
    assert stopped.result["attempt"] == 2
    assert _steps(lines)[0] >= 4
    for name in ("graph", "weights"):
        assert stopped.result[name]["digest"] == result[name]["digest"]
    manifests = [json.loads(run.artifact("manifest")) for run in (straight, stopped)]
    assert manifests[0] | {"run_id": "stopped"} == manifests[1]


def _steps(lines: list[Progress | Failure]) -> list[int]:
    return [line.step for line in lines if isinstance(line, Progress)]


def _check_version(run: Run, result: dict[str, Any]) -> None:
    """The manifest names what the result names, and the graph alone scores what was announced."""
    manifest = json.loads(run.artifact("manifest"))
    assert result["version_id"] == result["manifest"]["digest"]
    assert manifest["graph"]["digest"] == result["graph"]["digest"]
    assert manifest["dataset_id"] == run.dataset.dataset_id
    assert manifest["inputs"] == [{"name": "pixels", "type": "float32", "shape": [-1, 8, 8], "unit": "intensity"}]
    assert manifest["outputs"] == [
        {"name": "probabilities", "type": "float32", "shape": [-1, 10]},
        {"name": "label", "type": "int64", "shape": [-1]},
    ]
    test = DatasetReader(run.dataset, run.store).columns("test")
    assert evaluate(run.artifact("graph"), test, test["digit"]) == result["metrics"] == manifest["metrics"]


def test_a_run_that_can_never_succeed_says_why(begin: Begin, digits: Pipeline) -> None:
    optimizer = digits.train.optimizer.model_copy(update={"kind": "sgd", "learning_rate": 10.0})
    run = begin(_with_training(digits, optimizer=optimizer, network=MlpNetwork(kind="mlp", hidden=(64,))), "wild")

    code, lines = run.finish()

    assert code == REFUSED
    assert isinstance(lines[-1], Failure)
    assert "try a lower train.optimizer.learningRate than 10" in lines[-1].reason
    assert run.result is None
