"""What an assignment asks for, done: a version in the object store."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from headrace_data.dataset import DatasetReader
from headrace_data.errors import DataError
from headrace_data.manifest import Manifest
from headrace_data.spec import parse_canonical
from headrace_engines import beside
from headrace_learning.errors import LearningError
from headrace_learning.training.compute import CPU, machine_of, processes_of, threads_of
from headrace_learning.training.ports import Artifacts, Checkpoints, Progress
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.spreading import WHOLE
from headrace_runtime.local_files import working_folder
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.process.cores import available_cores
from headrace_runtime.process.memory import total_bytes
from headrace_runtime.process.usage import Usage
from headrace_runtime.runs.child import Assignment, WorkRefused

from headrace_trainer.core import run as core
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.origin import Beginning
from headrace_trainer.core.privacy import privacy_told
from headrace_trainer.core.run import Plan
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
    with _refusing(), working_folder() as folder:
        return _train(assignment, store, checkpoints, curve, artifacts, trials, folder)


@contextmanager
def _refusing() -> Iterator[None]:
    """Raise WorkRefused for what is wrong with the work itself."""
    try:
        yield
    except (TrainingError, DataError, LearningError) as error:
        # Specs and datasets are read by their digests, and training repeats itself: what is wrong stays wrong.
        raise WorkRefused(str(error)) from error


def follow(
    assignment: Assignment, store: ObjectStore, checkpoints: Checkpoints, progress: Progress, artifacts: Artifacts
) -> None:
    """Train beside the process of the group that leads, which calls `train` with the same assignment."""
    with _refusing():
        plan = _plan(assignment, store)
        machine_of(plan.pipeline.train.compute)
        reader, memory = _begun(plan, store)
        core.follow(plan, reader, checkpoints, progress, memory, artifacts, assignment["packages"])


def _plan(assignment: Assignment, store: ObjectStore) -> Plan:
    pipeline = parse_canonical(assignment["spec"].encode())
    dataset = Manifest.from_json(store.get(Artifact(**assignment["dataset"]["manifest"])))
    return Plan(assignment["run_id"], pipeline, dataset, _beginning(assignment.get("origin"), store))


def _begun(plan: Plan, store: ObjectStore) -> tuple[DatasetReader, Memory]:
    """Return the dataset's reader, and what this process may take of memory; compute in as many threads as it may."""
    pipeline, cores, compute = plan.pipeline, available_cores(), plan.pipeline.train.compute
    make_deterministic(threads_of(compute, cores))
    sliced = [pipeline.stream.field(name) for name in pipeline.train.slices]
    reader = DatasetReader(plan.dataset, store, sliced, grouped=plan.task.grouped)
    # What is spread over processes is there once; otherwise each has all.
    copies = 1 if compute is None or compute.strategy != WHOLE else processes_of(compute, cores)
    return reader, Memory(total_bytes() // copies)


def _train(
    assignment: Assignment,
    store: ObjectStore,
    checkpoints: Checkpoints,
    curve: Curve,
    artifacts: Artifacts,
    trials: Trials,
    folder: Path,
) -> dict[str, Any]:
    began = Usage.now()
    plan = _plan(assignment, store)
    pipeline = plan.pipeline
    machine = machine_of(pipeline.train.compute)  # what is not there is told before anything is read
    held_s = time.monotonic()
    reader, memory = _begun(plan, store)
    memory = replace(memory, folder=folder)
    trained = core.run(plan, reader, checkpoints, curve, memory, artifacts, assignment["packages"], trials)

    curve.write()
    spent = privacy_told(pipeline, trained.fitted)
    weights, graph = store.put(trained.weights), beside.put(trained.graph, store)
    manifest = store.put(version_manifest(plan, trained, weights, graph))
    return {
        "model": pipeline.model,
        "version_id": manifest.digest,
        "manifest": asdict(manifest),
        "graph": asdict(graph) | beside.told(trained.graph),
        "beside": beside.digests(trained.graph),
        "weights": asdict(weights),
        "task": pipeline.task,
        "measure": pipeline.compress.gates.measure or "",
        "metrics": {**trained.metrics, **trained.beside},
        "epochs": trained.fitted.outcome.epochs,
        "trials": trials_told(trained.tuned),
        "privacy": spent and {"epsilon": spent["epsilon"], "delta": spent["delta"]},
        **Usage.now().since(began)._asdict(),
        # By the clock: a GPU that waits for its rows is held, and paid for, as one that computes.
        "gpu_s": 0.0 if machine.device == CPU else time.monotonic() - held_s,
    }


def _beginning(origin: Mapping[str, Any] | None, store: ObjectStore) -> Beginning | None:
    if origin is None:
        return None
    weights, dataset = Artifact(**origin["weights"]), Manifest.from_json(store.get(Artifact(**origin["dataset"])))
    return Beginning(origin["version_id"], weights.digest, store.get(weights), dataset)
