"""Events to and from the JSON that a child process reads and writes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from headrace.events.v1 import artifact_pb2, model_pb2, run_pb2

from headrace_trainer.core.cost import Prices
from headrace_trainer.core.pods import Spread


def to_assignment(
    command: run_pb2.TrainingRequested, checkpoint_s: float, packages: Sequence[str] = (), spread: Spread | None = None
) -> dict[str, Any]:
    """Return what the child must know of a command.

    `checkpoint_s` are the seconds between checkpoints; of `packages` a spec may name functions. `spread` says which
    runs get pods of their own.
    """
    assignment = {
        "spec": command.spec.json.decode(),
        "dataset": {
            "dataset_id": command.dataset.dataset_id,
            "manifest": _artifact(command.dataset.manifest),
        },
        "checkpoint_s": checkpoint_s,
        "packages": list(packages),
    }
    if command.HasField("origin"):
        origin = command.origin
        assignment["origin"] = {
            "version_id": origin.version_id,
            "weights": _artifact(origin.weights),
            "dataset": _artifact(origin.dataset.manifest),
        }
    if spread is not None and (group := spread.group(_processes(command.spec.json))):
        assignment |= {"group": asdict(group), "pipeline": command.pipeline}
    return assignment


def _processes(spec: bytes) -> int:
    """Return how many processes a spec asks for."""
    try:
        return int(json.loads(spec)["train"]["compute"]["processes"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return 1  # none are named, or the child says what is wrong


def _artifact(artifact: artifact_pb2.Artifact) -> dict[str, Any]:
    return {"uri": artifact.uri, "digest": artifact.digest, "size_bytes": artifact.size_bytes}


def to_fact(command: run_pb2.TrainingRequested, result: Mapping[str, Any], prices: Prices) -> model_pb2.ModelTrained:
    """Return the fact that a child's result amounts to, with what it cost by the prices."""
    cpu_s, gpu_s = result.get("cpu_s", 0.0), result.get("gpu_s", 0.0)
    return model_pb2.ModelTrained(
        run_id=command.run_id,
        pipeline=command.pipeline,
        model=result["model"],
        version_id=result["version_id"],
        dataset_id=command.dataset.dataset_id,
        manifest=artifact_pb2.Artifact(**result["manifest"]),
        graph=artifact_pb2.Artifact(**result["graph"]),
        weights=artifact_pb2.Artifact(**result["weights"]),
        metrics=result["metrics"],
        attempt=result["attempt"],
        epochs=result["epochs"],
        task=result.get("task", ""),
        measure=result.get("measure", ""),
        cpu_s=cpu_s,
        peak_memory_bytes=result.get("peak_memory_bytes", 0),
        trials=[model_pb2.Trial(**trial) for trial in result.get("trials", [])],
        gpu_s=gpu_s,
        cost=prices.cost(cpu_s, gpu_s),
        currency=prices.currency,
        privacy=model_pb2.PrivacySpent(**spent) if (spent := result.get("privacy")) else None,
    )
