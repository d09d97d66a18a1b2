"""What a task is: which tensors answer, and how answers are measured, compared and judged."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final, Protocol

from headrace_data.tasks.gate import Gate
from headrace_data.tasks.measure import Array, Measure, Metrics

Answers = Mapping[str, Array]
"""What a graph answers to some rows, by the name of its output: each [rows, ...]."""
Classes = Sequence[int | str]
"""What the places of an answer stand for, such as the label's values; none where it is one number."""


BASELINE: Final = "baseline_"
"""How the measurements of always the same answer begin."""
TREES: Final = "trees_"
"""How the measurements of trees begin that were grown of the same rows to compare with."""


class Labels(Protocol):
    """What a run must know of the training split's labels, taken batch by batch."""

    def add(self, labels: Array) -> None:
        """Add the labels of some rows; at least one.

        They are [rows, *shape of the label], or [rows, 2] of a task that is grouped.
        """

    def baseline(self) -> Always:
        """Return what measures the answer that looks at no feature."""


class Scores(Protocol):
    """Measurements of rows that come batch by batch. Of one batch they are those of all rows at once."""

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows; at least one. `truth` is as `Labels` take it."""

    def quality(self) -> dict[str, float]:
        """Return the task's measures by name."""

    def metrics(self) -> dict[str, float]:
        """Return the measures, and those of parts of the rows, such as accuracy/<class>."""


class Always:
    """What always the same answer, which looks at no feature, scores on rows that come batch by batch."""

    def __init__(self, scores: Scores, answers: Callable[[int], Answers], names: Mapping[str, str]) -> None:
        """`answers` gives the answer to so many rows; `names` are those of the measures that have another one."""
        self._scores, self._answers, self._names = scores, answers, names

    def add(self, truth: Array) -> None:
        """Add the labels of some rows; at least one."""
        self._scores.add(self._answers(len(truth)), truth)

    def metrics(self) -> dict[str, float]:
        """Return baseline_<measure> of each; of a classification's accuracy baseline_accuracy/<answer>."""
        return {self._names.get(name, f"{BASELINE}{name}"): value for name, value in self._scores.quality().items()}


@dataclass(frozen=True)
class Baseline:
    """What always the same answer scores, and what the version does."""

    measure: Measure
    always: str
    """The answer in words, such as "always answering 'Adelie'"."""
    value: float
    """What it scores."""
    measured: float
    """What the version does."""
    answer: str | None = None
    """The class that is always answered; None where the answer is no class."""

    @property
    def no_better(self) -> bool:
        """Whether the version answers no better."""
        more = self.measure.better == "more"
        return self.measured <= self.value if more else self.measured >= self.value

    @property
    def worse(self) -> str:
        """What was measured of both where the version is worse, else empty."""
        if not self.measure.worse(self.measured, self.value):
            return ""
        own, other = self.measure.text(self.measured), self.measure.text(self.value)
        return f"{self.measure.name} {own}, and {other} by {self.always}"


class Task(ABC):
    """One kind of task: a member of `TASKS`."""

    kind: ClassVar[str]
    """As in a pipeline's document, under `train.task`."""
    answer: ClassVar[str]
    """What is answered, for the document's page."""
    unfit: ClassVar[frozenset[str]]
    """Types of labels that it cannot learn."""
    unfit_networks: ClassVar[frozenset[str]] = frozenset()
    """Kinds of `train.network` that cannot learn it."""
    dimensions: ClassVar[frozenset[int]] = frozenset({0})
    """How many dimensions a label may have that it learns: 0 of a single value, 1 of one with places."""
    least: ClassVar[float] = -math.inf
    """The least value of a label that it learns."""
    counts_labels: ClassVar[bool] = False
    """Whether it answers one of the label's values, of which there may not be too many."""
    answers_numbers: ClassVar[bool] = False
    """Whether it answers numbers in the label's unit, whose type `train.predictionType` says."""
    answers_texts: ClassVar[bool] = False
    """Whether it answers texts, which only networks that write some learn; those learn nothing else."""
    grouped: ClassVar[bool] = False
    """Whether rows are looked at among those of their group: a label is its value and the group's number."""
    heeds: ClassVar[frozenset[str]]
    """Keys of `train` that other tasks may have no use for."""
    outputs: ClassVar[tuple[str, ...]]
    """Names of the tensors that a served graph answers with."""
    headline: ClassVar[Measure]
    """By which versions are known, compared and chosen, unless a pipeline names another measure."""
    measured: ClassVar[tuple[Measure, ...]]
    """Every measure, those that a page shows first at the front."""
    loss: ClassVar[Measure]
    """What tells how far answers are off also where none changes, such as of a class that is rare; less is better."""
    won_by_constants: ClassVar[frozenset[str]] = frozenset()
    """Names of the measures in which an answer that looks at no feature may be the best."""
    unfit_to_choose: ClassVar[frozenset[str]] = frozenset()
    """Names of the measures by which no version is to be chosen: something that tells nobody anything has the most."""
    beside: ClassVar[str]
    """Name of the measurement that a table of variants shows beside the headline."""
    always: ClassVar[str] = ""
    """The answer that looks at no feature in words, such as "always answering the mean"."""
    has_logits: ClassVar[bool] = False
    """Whether its graphs have a tensor of logits, at which variants are compared with fp32."""
    has_row_losses: ClassVar[bool] = False
    """Whether it tells how far off the answer to a row is by itself, so that rows can be told apart by that."""
    gates: ClassVar[tuple[Gate, ...]]
    """What a variant must meet beside fp32, next to `COMMON_GATES`."""
    learned: ClassVar[tuple[tuple[Gate, float], ...]] = ()
    """What a variant that learned anew must meet in the place of gates `of_weights`, where the spec says nothing of it:
    each gate with its limit."""

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """Every measure by its name."""
        return {each.name: each for each in self.measured}

    def row_losses(self, _answers: Answers, _truth: Array, _classes: Classes) -> Array:
        """Return how far off the answer to each row is, [rows] float64; of a task that has `has_row_losses`."""
        raise TypeError(f"a {self.kind} tells nothing of a row by itself")

    @abstractmethod
    def labels(self, train: Any, places: Classes = ()) -> Labels:
        """Return what takes note of the training split's labels; `train` is the section of the spec.

        `places` are the names of the label's places where it has a shape.
        """

    def places(self, train: Any, values: Classes) -> Classes:
        """Return what the places of an answer stand for; nothing where it is one number.

        `values` are the label's values, or the names of its places where it has a shape.
        """
        return ()

    def question(self, train: Any) -> object:
        """Return what is asked beside the kind: versions that answer another question are not compared."""
        return None

    def point(self, answers: Answers, places: Classes) -> Array | None:
        """Return the numbers that stand for some answers, [rows]; None where they are classes.

        `places` are what the places of the answers stand for.
        """
        return None

    def alike(self, expected: Answers, given: Answers) -> dict[str, float]:
        """Return how near answers are to those of fp32 to the same rows, by name, each a mean over the rows."""
        return {}

    @abstractmethod
    def scores(
        self, classes: Classes, positive: int | str | None = None, compared: Classes = (), steps: Classes = ()
    ) -> Scores:
        """Return what measures answers; `classes` are what their places stand for.

        Where these are the label's values, `positive` is the one that is looked for, and `compared` are those of all
        graphs that are compared, so that a measure means the same of each. `steps` are the names of the label's places
        where numbers are answered for each of several.
        """

    def measure(self, name: str | None) -> Measure:
        """Return the measure that a pipeline chose; the headline where it chose none, or one of another task."""
        return self.measures.get(name or "", self.headline)

    def baseline(self, metrics: Metrics, measure: Measure) -> Baseline | None:
        """Return the baseline of a version by a measure, given its metrics; None when none was measured."""
        name = f"{BASELINE}{measure.name}"
        if not {name, measure.name} <= metrics.keys():
            return None
        return Baseline(measure, self.always, metrics[name], metrics[measure.name])

    def judged_by(self, measure: Measure) -> Measure:
        """Return the measure by which a version is held against its baseline, given the one that a pipeline chose.

        Some are won by an answer that looks at no feature, such as a calibration error: there the headline tells.
        """
        return self.headline if measure.name in self.won_by_constants else measure

    def why_useless(self, metrics: Metrics, measure: Measure, *, balanced: bool) -> str:
        """Return what shows that a version answers worse than its baseline, empty when it does not or none is known.

        `balanced` tells whether each class counted alike while it was trained.
        """
        found = self.baseline(metrics, self.judged_by(measure))
        return found.worse if found else ""
