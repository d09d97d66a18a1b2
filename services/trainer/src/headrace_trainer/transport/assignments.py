"""What an assignment asks for, done: a version in the object store."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from headrace_data.dataset import DatasetReader
from headrace_data.errors import DataError
from headrace_data.manifest import Manifest
from headrace_data.spec import parse_canonical
from headrace_learning.errors import LearningError
from headrace_learning.training.compute import CPU, machine_of, threads_of
from headrace_learning.training.ports import Artifacts, Checkpoints
from headrace_learning.training.randomness import make_deterministic
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.process.cores import available_cores
from headrace_runtime.process.memory import total_bytes
from headrace_runtime.process.usage import Usage
from headrace_runtime.runs.child import Assignment, WorkRefused

from headrace_trainer.core.memory import Memory
from headrace_trainer.core.origin import Beginning
from headrace_trainer.core.run import Plan, run
from headrace_trainer.core.version import trials_told, version_manifest
from headrace_trainer.errors import TrainingError
from headrace_trainer.ports import Curve, Trials


def train(
    assignment: Assignment,
    store: ObjectStore,
    checkpoints: Checkpoints,
    curve: Curve,
    artifacts: Artifacts,
    trials: Trials,
) -> dict[str, Any]:
    """Train the version that the assignment asks for, and return the result."""
    try:
        return _train(assignment, store, checkpoints, curve, artifacts, trials)
    except (TrainingError, DataError, LearningError) as error:
        # Specs and datasets are read by their digests, and training repeats itself: what is wrong stays wrong.
        raise WorkRefused(str(error)) from error


def _train(
    assignment: Assignment,
    store: ObjectStore,
    checkpoints: Checkpoints,
    curve: Curve,
    artifacts: Artifacts,
    trials: Trials,
) -> dict[str, Any]:
    began = Usage.now()
    pipeline = parse_canonical(assignment["spec"].encode())
    dataset = Manifest.from_json(store.get(Artifact(**assignment["dataset"]["manifest"])))
    plan = Plan(assignment["run_id"], pipeline, dataset, _beginning(assignment.get("origin"), store))

    machine = machine_of(pipeline.train.compute)  # what is not there is told before anything is read
    held_s = time.monotonic()
    make_deterministic(threads_of(pipeline.train.compute, available_cores()))
    sliced = [pipeline.stream.field(name) for name in pipeline.train.slices]
    reader = DatasetReader(dataset, store, sliced, grouped=plan.task.grouped)
    memory, packages = Memory(total_bytes()), assignment["packages"]
    trained = run(plan, reader, checkpoints, curve, memory, artifacts, packages, trials)

    curve.write()
    weights, graph = store.put(trained.weights), store.put(trained.graph)
    manifest = store.put(version_manifest(plan, trained, weights, graph))
    return {
        "model": pipeline.model,
        "version_id": manifest.digest,
        "manifest": asdict(manifest),
        "graph": asdict(graph),
        "weights": asdict(weights),
        "task": pipeline.task,
        "measure": pipeline.compress.gates.measure or "",
        "metrics": {**trained.metrics, **trained.beside},
        "epochs": trained.fitted.outcome.epochs,
        "trials": trials_told(trained.tuned),
        **Usage.now().since(began)._asdict(),
        # By the clock: a GPU that waits for its rows is held, and paid for, as one that computes.
        "gpu_s": 0.0 if machine.device == CPU else time.monotonic() - held_s,
    }


def _beginning(origin: Mapping[str, Any] | None, store: ObjectStore) -> Beginning | None:
    if origin is None:
        return None
    weights, dataset = Artifact(**origin["weights"]), Manifest.from_json(store.get(Artifact(**origin["dataset"])))
    return Beginning(origin["version_id"], weights.digest, store.get(weights), dataset)
