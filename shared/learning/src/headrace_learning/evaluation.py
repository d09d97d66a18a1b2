"""Measurements of served graphs on labelled rows: how good their answers are, and how faithful.

Everything works on graphs and raw columns, so the same functions measure what a trainer exported, what a
compressor made of it, and an older version on newer rows. How answers are measured is the task's:
`headrace_data.tasks`. What a graph takes to run is in `costs`.
"""

import math
from collections.abc import Iterable
from contextlib import closing
from typing import Final, Protocol

import numpy as np
from headrace_data.tasks import Answers, Classes, Scores, Slices, SliceScores, Task
from headrace_data.tasks.classification import LABEL, PROBABILITIES, Predictions
from headrace_data.tasks.regression import PREDICTION
from headrace_engines import ENGINES, ONNX
from headrace_engines.beside import Graph, is_language
from headrace_engines.model import Model, run_in_batches

from headrace_learning.graphs import (
    LOGITS,
    Array,
    Columns,
    classes_of_graph,
    steps_of_graph,
    task_of_graph,
    with_logits,
)
from headrace_learning.language_models.generating import TextAnswerer

WHOLE: Final = Slices()
"""No slices."""
Labelled = Iterable[tuple[Columns, Array]]
"""Rows in batches: raw features by name, and the label's values, [rows, *shape of the label]."""


def open_graph(graph: Graph) -> Model:
    """Return a graph in the engine that serves it, without a limit of time."""
    return ENGINES[ONNX](graph, None)


class Measured(Protocol):
    """What is served, ready to be measured by rows."""

    task: Task
    classes: Classes
    steps: Classes

    def answers(self, columns: Columns, truth: Array) -> Answers:
        """Return what it answers to rows, or thinks of their labels: by name, each [rows, ...]."""

    def scores(self) -> Scores:
        """Return what measures such answers."""

    def close(self) -> None:
        """Give back what it takes."""


def answerer_of(graph: Graph, positive: int | str | None = None, compared: Classes = ()) -> Measured:
    """Return a graph ready to be measured; `positive` and `compared` are those of an `Answerer`."""
    return TextAnswerer(graph) if is_language(graph) else Answerer(graph, positive, compared)


class Answerer:
    """A served graph, ready to answer rows, and its task."""

    def __init__(self, graph: Graph, positive: int | str | None = None, compared: Classes = ()) -> None:
        """`positive` is the class that is looked for, where there are classes; `compared` are those of all graphs."""
        self._model = open_graph(graph)
        self._positive, self._compared = positive, compared
        self.task = task_of_graph(graph)
        self.classes: Classes = classes_of_graph(graph)
        self.steps: Classes = steps_of_graph(graph)

    def close(self) -> None:
        """Give nothing back: a graph is gone with the last one who has it."""

    def answers(self, columns: Columns, _truth: Array | None = None) -> dict[str, Array]:
        """Run every row through the graph: its outputs by name, each [rows, ...]."""
        return dict(zip(self.task.outputs, run_in_batches(self._model, columns, self.task.outputs), strict=True))

    def scores(self) -> Scores:
        """Return what measures the graph's answers."""
        return self.task.scores(self.classes, self._positive, self._compared, self.steps)


def predict(graph: Graph, columns: Columns) -> Predictions:
    """Run every row through a classification's graph."""
    answerer = Answerer(graph)
    answers = answerer.answers(columns)
    return Predictions(answers[PROBABILITIES], answers[LABEL], answerer.classes)


def predict_numbers(graph: Graph, columns: Columns) -> Array:
    """Run every row through a regression's graph: [rows] float64, in the label's unit."""
    return Answerer(graph).answers(columns)[PREDICTION].astype(np.float64)


def evaluate(graph: Graph, columns: Columns, truth: Array) -> dict[str, float]:
    """Measure the graph on labelled rows: by the measures of its task, and of parts of the rows."""
    return evaluate_batches(graph, [(columns, truth)])


def evaluate_batches(
    graph: Graph, rows: Labelled, positive: int | str | None = None, slices: Slices = WHOLE
) -> dict[str, float]:
    """Measure the graph on rows that come batch by batch: what `evaluate` returns of all of them, and of slices."""
    with closing(answerer_of(graph, positive)) as answerer:
        scores, parts = answerer.scores(), SliceScores(slices, answerer.scores)
        for columns, truth in rows:
            answers = answerer.answers(columns, truth)
            scores.add(answers, truth)
            parts.add(columns, answers, truth)
    return scores.metrics() | parts.metrics()


def relative_logit_error(reference: Graph, other: Graph, columns: Columns) -> float:
    """Return the norm of the difference of two graphs' logits relative to the norm of the reference's logits.

    Norms are Frobenius norms over all rows. Accuracy hides flips that cancel each other; this does not.
    """
    error = LogitError(reference, other)
    error.add(columns)
    return error.relative


class LogitError:
    """How far the logits of two graphs are apart on rows that come batch by batch."""

    def __init__(self, reference: Graph, other: Graph) -> None:
        self._models = [open_graph(with_logits(graph)) for graph in (reference, other)]
        self._norm = 0.0
        self._difference = 0.0

    def add(self, columns: Columns) -> None:
        """Run rows through both."""
        expected, given = (_logits(model, columns) for model in self._models)
        self._norm = math.hypot(self._norm, float(np.linalg.norm(expected)))
        self._difference = math.hypot(self._difference, float(np.linalg.norm(given - expected)))

    @property
    def relative(self) -> float:
        """What `relative_logit_error` says."""
        if self._norm == 0.0:
            return 0.0 if self._difference == 0.0 else float("inf")
        return self._difference / self._norm


def logits_of(graph: Graph, columns: Columns) -> Array:
    """Return what the graph computes before the softmax, [rows, classes] float64."""
    return _logits(open_graph(with_logits(graph)), columns)


def answer_of(graph: Graph, columns: Columns, name: str) -> Array:
    """Return one of a graph's answers, [rows, ...], or its logits, which are no answer of their own."""
    (answer,) = run_in_batches(open_graph(with_logits(graph) if name == LOGITS else graph), columns, [name])
    return answer


def _logits(model: Model, columns: Columns) -> Array:
    (logits,) = run_in_batches(model, columns, [LOGITS])
    return logits.astype(np.float64)
