"""The tasks: what a model answers, and how its answers are measured, compared and judged. A task is one file.

Names of measurements are read here and nowhere else.
"""

from collections.abc import Collection
from typing import Final, Literal

from headrace_data.tasks.classification import Classification, classes_of
from headrace_data.tasks.count import Count
from headrace_data.tasks.differences import DIFFERENCE_ERROR, Differences, Groups, at_worst
from headrace_data.tasks.gate import (
    BATCH_LATENCY,
    BATCH_P99,
    COMMON_GATES,
    EMBEDDING_COSINE,
    EMBEDDING_GATE,
    LATENCY,
    MEMBERSHIP,
    MEMBERSHIP_GATE,
    MEMORY,
    NON_FINITE,
    P99,
    SIZE,
    SOUND_GATES,
    UNREPEATABLE,
    Gate,
    not_worse,
    reached,
)
from headrace_data.tasks.generation import GREEDY_AGREEMENT, Generation
from headrace_data.tasks.measure import Achieved, Array, Mean, Measure, Metrics, joined
from headrace_data.tasks.multilabel import Multilabel
from headrace_data.tasks.quantile import Quantile, QuantileSettings
from headrace_data.tasks.ranking import Ranking
from headrace_data.tasks.regression import NumberSettings, PredictionType, Regression
from headrace_data.tasks.sliced import (
    Slice,
    Slices,
    SliceScores,
    in_each_slice,
    not_worse_in_slices,
    of_slice,
    worst_first,
)
from headrace_data.tasks.task import TREES, Always, Answers, Baseline, Classes, Labels, Scores, Task

TaskKind = Literal["classification", "regression", "quantile", "ranking", "multilabel", "count", "generation"]
"""The tasks as a pipeline's document names them."""


class TaskSettings(NumberSettings, QuantileSettings):
    """What a document says under `train` of single tasks, each in the task's file. What other tasks heed is `heeds`."""


TASKS: Final[dict[str, Task]] = {
    "classification": Classification(),
    "regression": Regression(),
    "quantile": Quantile(),
    "ranking": Ranking(),
    "multilabel": Multilabel(),
    "count": Count(),
    "generation": Generation(),
}
"""The tasks by their kind in a pipeline's document."""


def task_of(kind: str, metrics: Metrics) -> Task:
    """Return the task of an event: by its kind, or of an event from before there was one by what was measured.

    An event without measurements is taken for a classification's: that is what such an old one was.
    """
    if kind in TASKS:
        return TASKS[kind]
    return next((task for task in TASKS.values() if task.headline.name in metrics), TASKS["classification"])


def at_least(gate: str) -> bool:
    """Tell whether what is measured for a gate of this name must be at least its limit; else at most."""
    own = [each for task in TASKS.values() for each in task.gates]
    measures = [each for task in TASKS.values() for each in task.measured]
    known = (*own, *map(reached, measures), *(in_each_slice(each, 1) for each in measures))
    return any(each.at_least for each in known if each.name == gate)


def of_part(name: str) -> bool:
    """Tell whether a measurement is one of a part of the rows, such as accuracy/<class>, or of a slice."""
    measure, slash, _ = name.partition("/")
    return of_slice(name) or (bool(slash) and any(measure in task.measures for task in TASKS.values()))


def task_of_outputs(names: Collection[str]) -> Task | None:
    """Return the task of a served graph by the names of its outputs; None when it is none of them."""
    return next((task for task in TASKS.values() if set(task.outputs) <= set(names)), None)


__all__ = [
    "BATCH_LATENCY",
    "BATCH_P99",
    "COMMON_GATES",
    "DIFFERENCE_ERROR",
    "EMBEDDING_COSINE",
    "EMBEDDING_GATE",
    "GREEDY_AGREEMENT",
    "LATENCY",
    "MEMBERSHIP",
    "MEMBERSHIP_GATE",
    "MEMORY",
    "NON_FINITE",
    "P99",
    "SIZE",
    "SOUND_GATES",
    "TASKS",
    "TREES",
    "UNREPEATABLE",
    "Achieved",
    "Always",
    "Answers",
    "Array",
    "Baseline",
    "Classes",
    "Differences",
    "Gate",
    "Groups",
    "Labels",
    "Mean",
    "Measure",
    "Metrics",
    "PredictionType",
    "Scores",
    "Slice",
    "SliceScores",
    "Slices",
    "Task",
    "TaskKind",
    "TaskSettings",
    "at_least",
    "at_worst",
    "classes_of",
    "in_each_slice",
    "joined",
    "not_worse",
    "not_worse_in_slices",
    "of_part",
    "of_slice",
    "reached",
    "task_of",
    "task_of_outputs",
    "worst_first",
]
