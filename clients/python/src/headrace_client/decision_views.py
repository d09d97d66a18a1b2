"""What is served on new rows, and what was decided by that, as plain values for `--json` and tables."""

from __future__ import annotations

from headrace.events.v1.evaluation_pb2 import Bounded, Drift, Scored, TrainingDecided
from headrace.registry.v1 import registry_service_pb2 as messages

from headrace_client.views import View, iso_time


def decision_view(decision: messages.Decided) -> View:
    """Return a decision: whether a dataset is trained on, why, and by which figures."""
    return {**decided_view(decision.decided), "decide_time": iso_time(decision.decide_time)}


def decided_view(decided: TrainingDecided) -> View:
    """Return a decision without its time."""
    return {
        "pipeline": decided.pipeline,
        "dataset_id": decided.dataset_id,
        "trained": decided.trained,
        "cause": decided.cause,
        "reason": decided.reason,
        "version_id": decided.version_id or None,
        "ordinal": decided.ordinal or None,
        "segment_id": decided.segment_id or None,
        "run_id": decided.run_id or None,
        "before": _bounded(decided.before) if decided.HasField("before") else None,
        "now": _bounded(decided.now) if decided.HasField("now") else None,
        "drift": drift_view(decided.drift) if decided.HasField("drift") else None,
        "age_s": decided.age_s,
        "rows": decided.rows,
    }


def evaluated_view(evaluation: messages.Evaluated) -> View:
    """Return what a version scored on new rows beside its own test split, and what moved."""
    evaluated = evaluation.evaluated
    return {
        "pipeline": evaluated.pipeline,
        "run_id": evaluated.run_id,
        "version_id": evaluated.version_id,
        "ordinal": evaluation.ordinal or None,
        "segment_id": evaluated.segment_id,
        "task": evaluated.task,
        "measure": evaluation.measure,
        "certainty": evaluated.certainty,
        "before": _scored(evaluated.before),
        "now": _scored(evaluated.now),
        "inputs": [drift_view(each) for each in evaluated.inputs],
        "answers": drift_view(evaluated.answers) if evaluated.HasField("answers") else None,
        "end_time": iso_time(evaluation.end_time),
    }


def drift_view(drift: Drift) -> View:
    """Return how far a field, or the answers where it is None, moved."""
    return {
        "field": drift.field or None,
        "measure": drift.measure,
        "value": drift.value,
        "chance": drift.chance,
        "bound": drift.bound,
    }


def _scored(scored: Scored) -> View:
    return {
        "rows": scored.rows,
        "measures": {each.name: _bounded(each) for each in scored.measures},
        "metrics": dict(sorted(scored.metrics.items())),
    }


def _bounded(bounded: Bounded) -> View:
    return {"name": bounded.name, "value": bounded.value, "low": bounded.low, "high": bounded.high}
