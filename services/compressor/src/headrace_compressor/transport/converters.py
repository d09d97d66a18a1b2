"""Events to and from the JSON that a child process reads and writes."""

from collections.abc import Mapping
from typing import Any

from headrace.events.v1 import artifact_pb2, model_pb2, run_pb2


def to_assignment(command: run_pb2.CompressionRequested, cpu_class: str) -> dict[str, Any]:
    """Return what the child must know of a command that is measured on a class of processors."""
    return {
        "cpu_class": cpu_class,
        "spec": command.spec.json.decode(),
        "candidate": version_values(command.candidate),
        "champion": version_values(command.champion) if command.HasField("champion") else None,
    }


def to_fact(command: run_pb2.CompressionRequested, result: Mapping[str, Any]) -> model_pb2.ModelCompressed:
    """Return the fact that a child's result amounts to.

    Raises ValueError for one of another class than the command names, as compressors of before measured it.
    """
    if command.cpu_class not in ("", result["cpu_class"]):
        raise ValueError(f"expected measurements of {command.cpu_class}, got those of {result['cpu_class']}")
    return model_pb2.ModelCompressed(
        run_id=command.run_id,
        pipeline=command.pipeline,
        version_id=command.candidate.version_id,
        variants=[
            model_pb2.Variant(
                name=each["name"],
                graph=artifact_pb2.Artifact(**each["graph"]),
                metrics=each["metrics"],
                told=each.get("told", {}),  # missing in results of before it was recorded
            )
            for each in result["variants"]
        ],
        # Results of before there were such variants lack them.
        not_applicable=[model_pb2.NotApplicable(**each) for each in result.get("not_applicable", ())],
        evaluations=[model_pb2.Evaluation(**each) for each in result["evaluations"]],
        joined=[model_pb2.Evaluation(**each) for each in result.get("joined", ())],
        champion_id=command.champion.version_id,
        cpu_class=result["cpu_class"],
        attempt=result["attempt"],
    )


def version_values(reference: run_pb2.VersionReference) -> dict[str, Any]:
    """Return a version as a child is told of it."""
    return {
        "version_id": reference.version_id,
        "graph": artifact_values(reference.graph),
        "dataset": {
            "dataset_id": reference.dataset.dataset_id,
            "manifest": artifact_values(reference.dataset.manifest),
        },
        "weights": artifact_values(reference.weights) if reference.HasField("weights") else None,
    }


def artifact_values(artifact: artifact_pb2.Artifact) -> dict[str, Any]:
    """Return where bytes are as a child is told of them."""
    told = {"uri": artifact.uri, "digest": artifact.digest, "size_bytes": artifact.size_bytes}
    return told | ({"beside_bytes": artifact.beside_bytes} if artifact.beside_bytes else {})
