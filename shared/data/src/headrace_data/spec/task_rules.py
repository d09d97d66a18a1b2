"""Rules about the task: classification or regression, and what goes with each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from headrace_data.spec.draft import Draft, Finding
from headrace_data.spec.stream import Field

_FLOATS: Final = ("float32", "float64")
_GATES_OF: Final = {
    "classification": ("accuracyDrop", "agreement", "relativeLogitError"),
    "regression": ("errorRise",),
}
"""The gates that only one task has."""


def task_fits_label(draft: Draft) -> Iterator[Finding]:
    """Demand a label that the task can learn."""
    task, label = draft.at("train", "task"), _label(draft)
    if label is None:
        return
    if task == "classification" and label.type in _FLOATS:
        yield ("train", "task"), f"expected regression for a label of type {label.type}, got classification"
    if task == "regression" and label.type == "string":
        yield ("train", "task"), "expected classification for a label of type string, got regression"


def weights_are_for_classes(draft: Draft) -> Iterator[Finding]:
    """Demand classes from who weighs them."""
    if draft.at("train", "classWeights") == "balanced" and _task(draft) == "regression":
        yield ("train", "classWeights"), "expected none for a regression, which has no classes, got balanced"


def prediction_types_are_for_numbers(draft: Draft) -> Iterator[Finding]:
    """Demand numbers from a document that says their type."""
    if draft.at("train", "predictionType") is not None and _task(draft) == "classification":
        yield ("train", "predictionType"), "expected none for a classification, which answers a class, got one"


def gates_fit_the_task(draft: Draft) -> Iterator[Finding]:
    """Demand gates that the task has. For documents only: every gate has a default."""
    gates, task = draft.at("compress", "gates"), _task(draft)
    if not isinstance(gates, dict) or task is None:
        return
    for other, names in _GATES_OF.items():
        for name in names:
            if other != task and name in gates:
                own = ", ".join((*_GATES_OF[task], "sizeRatio", "latencyRatio"))
                yield ("compress", "gates", name), f"expected gates of a {task} ({own}), got one of a {other}"


def _label(draft: Draft) -> Field | None:
    positions = draft.by_role("label")
    return draft.fields.get(positions[0]) if len(positions) == 1 else None


def _task(draft: Draft) -> str | None:
    """Return the task that a document asks for, or that its label suggests; None when that cannot be told."""
    task, label = draft.at("train", "task"), _label(draft)
    if isinstance(task, str) and task in _GATES_OF:
        return task
    if task is not None or label is None:
        return None
    return "regression" if label.type in _FLOATS else "classification"


TASK_RULES: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (
    task_fits_label,
    weights_are_for_classes,
    prediction_types_are_for_numbers,
)
"""The rules about the task of every spec."""
