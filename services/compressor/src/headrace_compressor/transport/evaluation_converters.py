"""Evaluations to and from the JSON that a child process reads and writes."""

from collections.abc import Mapping
from typing import Any

from headrace.events.v1 import evaluation_pb2

from headrace_compressor.transport.converters import artifact_values, version_values


def to_assignment(command: evaluation_pb2.EvaluationRequested) -> dict[str, Any]:
    """Return what the child must know of a command."""
    segment = command.segment
    return {
        "spec": command.spec.json.decode(),
        "version": version_values(command.version),
        "segment": {
            "segment_id": segment.segment_id,
            "manifest": artifact_values(segment.manifest),
            "sketch": artifact_values(segment.sketch) if segment.HasField("sketch") else None,
        },
    }


def to_fact(command: evaluation_pb2.EvaluationRequested, result: Mapping[str, Any]) -> evaluation_pb2.ModelEvaluated:
    """Return the fact that a child's result amounts to."""
    return evaluation_pb2.ModelEvaluated(
        run_id=command.run_id,
        pipeline=command.pipeline,
        version_id=command.version.version_id,
        segment_id=command.segment.segment_id,
        task=result["task"],
        before=_scored(result["before"]),
        now=_scored(result["now"]),
        certainty=result["certainty"],
        inputs=[evaluation_pb2.Drift(**each) for each in result["inputs"]],
        answers=evaluation_pb2.Drift(**result["answers"]) if result["answers"] is not None else None,
        attempt=result["attempt"],
    )


def _scored(values: Mapping[str, Any]) -> evaluation_pb2.Scored:
    measures = [evaluation_pb2.Bounded(**each) for each in values["measures"]]
    return evaluation_pb2.Scored(rows=values["rows"], measures=measures, metrics=values["metrics"])
