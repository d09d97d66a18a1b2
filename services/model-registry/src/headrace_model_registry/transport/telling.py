"""What is told of evaluations, decisions and rollouts beside the log: metrics to alert on, and spans for the story."""

from collections.abc import Iterable

from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import tracer
from prometheus_client import Counter, Gauge

from headrace_model_registry.core.facts import (
    Drift,
    LogEntry,
    ModelEvaluated,
    RolloutAdvanced,
    RolloutEnded,
    TrainingDecided,
)

DECISIONS = Counter("headrace_training_decisions", "Decisions whether to train.", ["pipeline", "cause", "trained"])
ROLLOUTS = Counter("headrace_rollouts_ended", "Rollouts by how they ended.", ["pipeline", "outcome"])
QUALITY = Gauge(
    "headrace_live_quality", "What is served scores on the newest rows, by measure.", ["pipeline", "measure"]
)
QUALITY_CHANGED = Gauge(
    "headrace_live_quality_changed",
    "What is served scores on the newest rows, less what it did on its own test split.",
    ["pipeline", "measure"],
)
DRIFT = Gauge(
    "headrace_drift",
    "How far a field moved from the dataset of what is served, without chance; the answers by an empty name.",
    ["pipeline", "field"],
)


def tell(entries: Iterable[LogEntry]) -> None:
    """Tell of committed entries."""
    for entry in entries:
        event = entry.event
        if isinstance(event, TrainingDecided):
            DECISIONS.labels(event.pipeline, event.cause, str(event.trained).lower()).inc()
        if isinstance(event, RolloutEnded):
            ROLLOUTS.labels(event.pipeline, event.outcome.name.lower()).inc()
        if isinstance(event, ModelEvaluated):
            _tell_evaluation(event)


def note(entries: Iterable[LogEntry]) -> None:
    """Leave a span of each decision in the current trace."""
    for entry in entries:
        event = entry.event
        if isinstance(event, TrainingDecided):
            attributes = {
                names.PIPELINE: event.pipeline,
                names.DATASET_ID: event.dataset_id,
                names.DECISION: event.reason,
            } | ({names.RUN_ID: event.run_id} if event.run_id else {})
        elif isinstance(event, RolloutAdvanced | RolloutEnded):
            attributes = {
                names.PIPELINE: event.pipeline,
                names.MODEL: event.model,
                names.VERSION_ID: event.version_id,
                names.DECISION: event.reason,
            }
        else:
            continue
        with tracer.start_as_current_span(names.SPAN_DECIDE, attributes=attributes):
            pass


def _tell_evaluation(event: ModelEvaluated) -> None:
    before = {each.name: each.value for each in event.before.measures}
    for each in event.now.measures:
        # Those of classes and slices are as many as there are values.
        if "/" not in each.name:
            QUALITY.labels(event.pipeline, each.name).set(each.value)
            if each.name in before:
                QUALITY_CHANGED.labels(event.pipeline, each.name).set(each.value - before[each.name])
    for moved in (*event.inputs, *([event.answers] if event.answers else [])):
        DRIFT.labels(event.pipeline, moved.field).set(_no_chance(moved))


def _no_chance(moved: Drift) -> float:
    return moved.excess if moved.is_no_chance else 0.0
