"""Whole training runs on the scanned digits, from Parquet to a version in the object store."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_data.spec import Compute, ImportedModel, MlpNetwork, Pipeline
from headrace_learning.evaluation import evaluate
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.process.cores import available_cores
from headrace_runtime.runs.child import ABANDONED, DONE, Failure, Progress, WorkRefused, parse_line
from headrace_runtime.runs.folder import RunFolder, output_prefix
from headrace_trainer.child import work
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.slow

LONGEST_S = 30.0
"""Processor time that a run of the digits may take. It takes 12 s when nothing else shares the core's caches."""


class Steps:
    """Remembers which epochs were reported."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        assert 0 < step <= steps
        assert metrics.keys() == {"train_loss", "validation_loss", "validation_accuracy"}
        assert eta_s >= 0
        self.seen.append(step)


@pytest.fixture
def assign(store: ObjectStore, freeze: Callable[[Pipeline], Manifest]) -> Callable[..., dict[str, Any]]:
    """Makes an assignment as the worker does."""

    def build(
        pipeline: Pipeline,
        run_id: str,
        attempt: int = 1,
        dataset: Manifest | None = None,
        checkpoint_s: float = 0,
    ) -> dict[str, Any]:
        dataset = dataset or freeze(pipeline)
        return {
            "run_id": run_id,
            "attempt": attempt,
            "store_url": store.url,
            "output": output_prefix(run_id, attempt),
            "spec": pipeline.canonical_json().decode(),
            "dataset": {"dataset_id": dataset.dataset_id, "manifest": asdict(store.put(dataset.to_json()))},
            "checkpoint_s": checkpoint_s,
            "packages": [],
        }

    return build


Assign = Callable[..., dict[str, Any]]


def _start(assignment: dict[str, Any], folder: Path) -> "subprocess.Popen[bytes]":
    file = folder / "assignment.json"
    file.write_text(json.dumps(assignment))
    strict = ["-W", "error", "-W", "ignore::ResourceWarning"]
    return subprocess.Popen(
        [sys.executable, *strict, "-m", "headrace_trainer.child", str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _changed(pipeline: Pipeline, **changes: Any) -> Pipeline:
    return pipeline.model_copy(update={"train": pipeline.train.model_copy(update=changes)})


def _salted(pipeline: Pipeline, salt: str) -> Pipeline:
    split = pipeline.prepare.split.model_copy(update={"salt": salt})
    return pipeline.model_copy(update={"prepare": pipeline.prepare.model_copy(update={"split": split})})


def test_a_run_gives_the_same_version_whether_it_was_stopped_or_not(
    assign: Assign, digits: Pipeline, store: ObjectStore, tmp_path: Path
) -> None:
    steps = Steps()
    straight = work(assign(digits, "straight"), steps)
    assert steps.seen == list(range(1, straight["epochs"] + 1))

    with _start(assign(digits, "stopped", attempt=1), tmp_path) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for _ in range(3):
            assert isinstance(parse_line(child.stdout.readline()), Progress)
        child.stdin.close()
        assert child.wait() == ABANDONED
    assert RunFolder(store, "stopped").result() is None

    # Processor time, because the machine may have other work.
    before = _children_cpu_s()
    with _start(assign(digits, "stopped", attempt=2), tmp_path) as child:
        assert child.stdout is not None
        lines = [parse_line(line) for line in child.stdout]
        assert child.wait() == DONE
    assert _children_cpu_s() - before < LONGEST_S

    assert not any(isinstance(line, Failure) for line in lines)
    assert isinstance(lines[0], Progress)
    assert lines[0].step >= 4
    stopped = RunFolder(store, "stopped").result()
    assert stopped is not None
    assert (stopped["run_id"], stopped["attempt"]) == ("stopped", 2)
    # Another process, another run, stopped in between: the bytes are the same.
    assert {name: stopped[name] for name in ("graph", "weights", "metrics", "epochs", "model")} == {
        name: straight[name] for name in ("graph", "weights", "metrics", "epochs", "model")
    }
    manifests = [json.loads(store.get(Artifact(**each["manifest"]))) for each in (straight, stopped)]
    assert manifests[0] | {"run_id": "stopped"} == manifests[1]


def test_a_version_says_on_what_it_was_trained_and_a_gpu_that_is_not_there_ends_the_run(
    assign: Assign, digits: Pipeline, store: ObjectStore
) -> None:
    compute = Compute(device="cpu", precision="bf16", threads="auto")
    quick = _changed(digits, network=MlpNetwork(kind="mlp", hidden=(16,)), epochs=2, compute=compute)
    result = work(assign(quick, "half"), Steps())
    manifest = json.loads(store.get(Artifact(**result["manifest"])))
    assert manifest["compute"] == {"device": "cpu", "precision": "bf16", "threads": available_cores()}

    if not torch.cuda.is_available():
        with pytest.raises(WorkRefused, match=r"train\.compute\.device: expected a GPU"):
            work(assign(_changed(quick, compute=Compute(device="cuda")), "none"), Steps())


@pytest.mark.parametrize("checkpoint_s", [3600.0, 1e-6])
def test_a_run_that_is_killed_between_checkpoints_gives_the_same_version(
    assign: Assign, digits: Pipeline, store: ObjectStore, tmp_path: Path, checkpoint_s: float
) -> None:
    quick = _changed(digits, network=MlpNetwork(kind="mlp", hidden=(32,), dropout=0.2), epochs=5)
    straight = work(assign(quick, "straight", checkpoint_s=3600.0), Steps())

    with _start(assign(quick, "killed", checkpoint_s=checkpoint_s), tmp_path) as child:
        assert child.stdout is not None
        for _ in range(2):
            assert isinstance(parse_line(child.stdout.readline()), Progress)
        child.kill()
        told = 2 + len(child.stdout.readlines())
    steps = Steps()
    again = work(assign(quick, "killed", attempt=2, checkpoint_s=checkpoint_s), steps)

    # Without a checkpoint it begins anew; with one after each batch it goes on from what was told last, or later.
    assert steps.seen == list(range(6 - len(steps.seen), 6))
    assert len(steps.seen) == 5 if checkpoint_s > 1 else len(steps.seen) <= 5 - told
    assert {name: again[name] for name in ("graph", "weights", "metrics", "epochs")} == {
        name: straight[name] for name in ("graph", "weights", "metrics", "epochs")
    }


@pytest.mark.parametrize(("salt", "seed"), [("headrace", 7), ("another", 1), ("third", 2)])
def test_the_example_learns_the_digits_however_they_are_split(
    assign: Assign, digits: Pipeline, store: ObjectStore, freeze: Callable[[Pipeline], Manifest], salt: str, seed: int
) -> None:
    pipeline = _changed(_salted(digits, salt), seed=seed)
    dataset = freeze(pipeline)

    result = work(assign(pipeline, "run", dataset=dataset), Steps())

    assert result["metrics"]["accuracy"] >= 0.97
    manifest = json.loads(store.get(Artifact(**result["manifest"])))
    assert result["version_id"] == result["manifest"]["digest"]
    assert manifest["graph"]["digest"] == result["graph"]["digest"]
    assert manifest["weights"]["digest"] == result["weights"]["digest"]
    assert manifest["dataset_id"] == dataset.dataset_id
    assert manifest["spec_digest"] == pipeline.digest
    assert manifest["classes"] == list(range(10))
    assert manifest["inputs"] == [{"name": "pixels", "type": "float32", "shape": [-1, 8, 8], "unit": "intensity"}]
    assert manifest["outputs"] == [
        {"name": "probabilities", "type": "float32", "shape": [-1, 10]},
        {"name": "label", "type": "int64", "shape": [-1]},
    ]
    # The graph alone, from raw pixels, scores what was announced.
    test = DatasetReader(dataset, store).columns("test")
    graph = store.get(Artifact(**result["graph"]))
    assert result["metrics"] == manifest["metrics"]
    measured = {name: value for name, value in result["metrics"].items() if not name.startswith("baseline_")}
    assert evaluate(graph, test, test["digit"]) == measured
    assert any(name.startswith("baseline_accuracy/") for name in result["metrics"])


def test_a_run_that_can_never_succeed_says_what_to_change(assign: Assign, digits: Pipeline, store: ObjectStore) -> None:
    wild = digits.train.optimizer.model_copy(update={"kind": "sgd", "learning_rate": 10.0, "weight_decay": 1.0})
    pipeline = _changed(digits, optimizer=wild, network=MlpNetwork(kind="mlp", hidden=(64,)))

    with pytest.raises(WorkRefused, match=r"try a lower train\.optimizer\.learningRate than 10"):
        work(assign(pipeline, "wild"), Steps())


def test_a_file_that_was_imported_is_measured_and_kept_as_it_came(
    assign: Assign, digits: Pipeline, store: ObjectStore
) -> None:
    weights = np.random.default_rng(1).normal(size=(64, 10)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])],
        "elsewhere",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    file = store.put(model.SerializeToString())
    network = ImportedModel(kind="imported", format="onnx", digest=file.digest, size_bytes=file.size_bytes)
    result = work(assign(_changed(digits, network=network), "imported"), Untrained())

    assert (result["weights"]["digest"], result["epochs"]) == (file.digest, 0)
    assert 0 < result["metrics"]["accuracy"] < 0.5
    gone = network.model_copy(update={"digest": "sha256:" + "0" * 64})
    with pytest.raises(WorkRefused, match=r"train\.network\.digest: expected .* import the file again"):
        work(assign(_changed(digits, network=gone), "gone"), Untrained())


class Untrained:
    """Is told of one measurement."""

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], _eta_s: float) -> None:
        assert (step, steps, set(metrics)) == (1, 1, {"validation_loss", "validation_accuracy"})


def test_a_dataset_of_another_schema_is_refused(
    assign: Assign, digits: Pipeline, freeze: Callable[[Pipeline], Manifest]
) -> None:
    fields = tuple(field.model_copy(update={"unit": "ink"}) for field in digits.stream.fields)
    other = digits.model_copy(update={"stream": digits.stream.model_copy(update={"fields": fields})})

    with pytest.raises(WorkRefused, match="expected the schema of pipeline 'digits'"):
        work(assign(other, "other", dataset=freeze(digits)), Steps())


def test_a_broken_manifest_is_refused(assign: Assign, digits: Pipeline, store: ObjectStore) -> None:
    assignment = assign(digits, "broken")
    assignment["dataset"]["manifest"] = asdict(store.put(b"{}"))

    with pytest.raises(WorkRefused, match="manifest"):
        work(assignment, Steps())


_DETERMINISTIC = """
import sys
from headrace_learning.training.randomness import make_deterministic
import headrace_trainer.transport.assignments

make_deterministic()
print("torch._dynamo" in sys.modules)
"""


def test_a_run_begins_without_a_compiler() -> None:
    """Its import would take seconds, and more memory than everything else."""
    begun = subprocess.run([sys.executable, "-c", _DETERMINISTIC], capture_output=True, text=True, check=True)

    assert begun.stdout.split() == ["False"]
