"""What a version scores on rows, with the interval in which the true value lies.

Shares of right rows have Wilson's interval, see `headrace_data.bounds`. All else has a normal one with the deviation of
a bootstrap: Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7 (1979). That draws from a
sample of many rows, and its deviation is scaled to all of them, as of m out of n rows: Bickel, Goetze and van Zwet,
"Resampling Fewer than n Observations", Statistica Sinica 7 (1997).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np
from headrace_data.bounds import Bounded, Z, wilson
from headrace_data.drift import Index, index_of_counts, index_of_values
from headrace_data.tasks import Slices, SliceScores, Task
from headrace_data.tasks.classification import LABEL
from headrace_data.tasks.measure import COUNTED
from headrace_engines.beside import Graph
from headrace_learning.evaluation import Labelled, Measured, answerer_of
from headrace_learning.graphs import Array

from headrace_compressor.core.sampled import Sampled
from headrace_compressor.errors import NothingToMeasure

REPLICATES: Final = 100
MOST_FIGURES: Final = 1_000
"""Figures that are told; of more, as of thousands of classes, those of the whole alone: events have a size."""
_ANSWERS_ALARM: Final = 1 / 2_000
"""How often answers to rows of one distribution may be told apart."""


@dataclass(frozen=True)
class Scored:
    """What a version scores on some rows."""

    rows: int
    measures: tuple[Bounded, ...]
    """The measures of the task and of its classes, as far as there is an interval."""
    metrics: Mapping[str, float]
    """Everything that was measured, by name; of slices as `SliceScores` calls it."""


class Scorer:
    """Scores one version on one set of rows after another."""

    def __init__(self, graph: Graph, positive: int | str | None = None) -> None:
        """`positive` is the class that is looked for, where there are classes."""
        self._graph, self._positive = graph, positive

    def score(self, rows: Labelled, slices: Slices, what: str) -> tuple[Scored, Sampled]:
        """Return what is scored on rows, which are called `what`, and a sample. Raises NothingToMeasure for none."""
        with closing(answerer_of(self._graph, self._positive)) as answerer:
            scores, parts = answerer.scores(), SliceScores(slices, answerer.scores)
            sample = Sampled(grouped=answerer.task.grouped)
            names = [field.name for field in slices.fields]
            for columns, truth in rows:
                answers = answerer.answers(columns, truth)
                scores.add(answers, truth)
                parts.add(columns, answers, truth)
                sample.add({name: columns[name] for name in names}, answers, truth)
            if not sample.rows:
                raise NothingToMeasure(f"expected rows of {what} to score a version on, got none")
            found = _finite({**scores.metrics(), **parts.metrics()})
            if len(found) > MOST_FIGURES:
                found = {name: value for name, value in found.items() if "/" not in name}
            bounds = _bounded(found, answerer, slices, sample)
        return Scored(sample.rows, bounds, found), sample


def _bounded(found: Mapping[str, float], answerer: Measured, slices: Slices, sample: Sampled) -> tuple[Bounded, ...]:
    """Return the interval of each measurement that has one."""
    random, drawn = np.random.default_rng(0), list[dict[str, float]]()
    for _ in range(REPLICATES):
        columns, answers, truth = sample.drawn(random)
        scores, parts = answerer.scores(), SliceScores(slices, answerer.scores)
        scores.add(answers, truth)
        parts.add(columns, answers, truth)
        drawn.append(_finite({**scores.metrics(), **parts.metrics()}))
    bounds = []
    for name, value in found.items():
        values = [each[name] for each in drawn if name in each]
        # Of a class with a row or two, many draws have none.
        if name.endswith("/rows") or len(values) < REPLICATES // 2:
            continue
        spread = float(np.std(values)) * math.sqrt(sample.share)
        bounds.append(_interval(name, value, spread, answerer.task, sample.rows))
    return tuple(bounds)


def _interval(name: str, value: float, spread: float, task: Task, rows: int) -> Bounded:
    measure = task.measures.get(name)
    if measure is not None and measure.adds_up is COUNTED:
        return Bounded(name, value, *wilson(value, rows))
    low, high = value - Z * spread, value + Z * spread
    of = task.measures.get(name.rpartition("/")[2]) or task.measures.get(name.partition("/")[0]) or measure
    if of is not None and of.unit == "share":
        low, high = max(low, 0.0), min(high, 1.0)
    return Bounded(name, value, low, high)


def answers_index(task: Task, places: Sequence[int | str], before: Sampled, now: Sampled) -> Index | None:
    """Return how far a version's answers to rows are from those to other rows; None where nobody can tell."""
    if LABEL in before.answers:
        return index_of_counts(_counts(before), _counts(now), _ANSWERS_ALARM)
    points = _points(task, places, before), _points(task, places, now)
    if points[0] is None or points[1] is None:
        return None
    return index_of_values(points[0], points[1], _ANSWERS_ALARM)


def _counts(sample: Sampled) -> Mapping[int | str, int]:
    return Counter(sample.answers[LABEL].tolist())


def _points(task: Task, places: Sequence[int | str], sample: Sampled) -> Array | None:
    points = task.point(sample.answers, places)
    return None if points is None else points.astype(np.float64).reshape(len(points), -1)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
