"""Canaries to and from the JSON that a child process reads and writes."""

from collections.abc import Mapping
from typing import Any

from headrace.events.v1 import canary_pb2, run_pb2

from headrace_compressor.transport.converters import artifact_values

_VERDICTS = {
    "better": canary_pb2.CANARY_VERDICT_BETTER,
    "worse": canary_pb2.CANARY_VERDICT_WORSE,
    "alike": canary_pb2.CANARY_VERDICT_ALIKE,
}


def canary_values(command: run_pb2.CompressionRequested) -> dict[str, Any]:
    """Return what a child must know of a canary beside its versions; nothing of a compression."""
    if not command.HasField("canary"):
        return {}
    rows = command.canary
    return {"canary": {"history": artifact_values(rows.history), "last_s": rows.last_s}}


def to_judged(command: run_pb2.CompressionRequested, result: Mapping[str, Any]) -> canary_pb2.CanaryJudged:
    """Return the fact that a child's result amounts to."""
    told = {name: result[name] for name in ("rows", "unseen_rows", "segments", "since_us", "until_us", "measure")}
    return canary_pb2.CanaryJudged(
        run_id=command.run_id,
        pipeline=command.pipeline,
        version_id=command.candidate.version_id,
        champion_id=command.champion.version_id,
        verdict=_VERDICTS[result["verdict"]],
        measures=[canary_pb2.CanaryFigure(**each) for each in result["measures"]],
        slices=[canary_pb2.CanaryFigure(**each) for each in result["slices"]],
        alike=result["alike"],
        certainty=result["certainty"],
        attempt=result["attempt"],
        **told,
    )
