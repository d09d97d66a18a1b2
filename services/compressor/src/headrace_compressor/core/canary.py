"""A version held against another on the same rows: what each scores, and whether the rows tell them apart.

The interval of a difference is a normal one with the deviation of a paired bootstrap: rows are drawn once and scored by
both, as in Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 6. It draws from a sample of many
rows, and its deviation is scaled to all of them.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

import numpy as np
from headrace_data.tasks import Answers, Mean, Measure, Slices, SliceScores
from headrace_engines.beside import Graph
from headrace_learning.evaluation import Labelled, Measured, answerer_of
from headrace_learning.graphs import Array, classes_of_graph, task_of_graph

from headrace_compressor.errors import NothingToMeasure

CERTAINTY: Final = 0.95
REPLICATES: Final = 100
MOST_ROWS: Final = 4_000
"""Rows that are drawn from."""
MOST_SLICES: Final = 5
LEAST_ROWS: Final = 20
"""Rows of a slice that is told of, at least."""
_Z: Final = NormalDist().inv_cdf(0.5 + CERTAINTY / 2)
BETTER, WORSE, ALIKE = "better", "worse", "alike"


@dataclass(frozen=True)
class Figure:
    """One measurement of both, and the interval of the candidate's less the champion's."""

    name: str
    rows: int
    candidate: float
    champion: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """How a version does beside another."""

    rows: int
    verdict: str
    """BETTER, WORSE or ALIKE, by the first of the measures."""
    measures: tuple[Figure, ...]
    slices: tuple[Figure, ...]
    """By the first of the measures, the one in which the candidate loses most first."""
    alike: Mapping[str, float]


@dataclass
class _Sample:
    """Rows with the answers of both: a uniform sample, the same each time. Rows of one group stay together."""

    grouped: bool
    rows: int = 0
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    _ranks: Array = field(default_factory=lambda: np.empty(0))
    _kept: dict[tuple[int, str], Array] = field(default_factory=dict)
    _truth: Array = field(default_factory=lambda: np.empty(0))

    def add(self, parts: Sequence[Mapping[str, Array]], truth: Array) -> None:
        """Add rows: the fields of slices, the candidate's answers and the champion's."""
        # The number of a group is a digest of its text: as even as chance.
        ranks = truth[:, 1].copy() if self.grouped else self._random.random(len(truth))
        new = {(place, name): values for place, part in enumerate(parts) for name, values in part.items()}
        if self.rows:
            ranks, truth = np.concatenate([self._ranks, ranks]), np.concatenate([self._truth, truth])
            new = {key: np.concatenate([self._kept[key], values]) for key, values in new.items()}
        self.rows += len(ranks) - len(self._ranks)
        kept = np.sort(np.argsort(ranks, kind="stable")[:MOST_ROWS])
        self._ranks, self._truth = ranks[kept], truth[kept]
        self._kept = {key: values[kept] for key, values in new.items()}

    def drawn(self) -> tuple[list[dict[str, Array]], Array]:
        """Return as many rows, or groups, drawn with replacement."""
        places = self._places()
        parts: list[dict[str, Array]] = [{}, {}, {}]
        for (place, name), values in self._kept.items():
            parts[place][name] = values[places]
        return parts, self._truth[places]

    def _places(self) -> Array:
        count = len(self._truth)
        if not self.grouped:
            return self._random.integers(count, size=count)
        _, of = np.unique(self._truth[:, 1], return_inverse=True)
        members = np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of))[:-1])
        return np.concatenate([members[group] for group in self._random.integers(len(members), size=len(members))])

    @property
    def scale(self) -> float:
        """What the deviation of a draw is multiplied by."""
        return math.sqrt(len(self._truth) / self.rows)


class _Pair:
    """Scores of both versions on some rows."""

    def __init__(self, answerers: Sequence[Measured], slices: Slices) -> None:
        self._scores = [each.scores() for each in answerers]
        self._parts = [SliceScores(slices, each.scores) for each in answerers]

    def add(self, columns: Mapping[str, Array], answers: Sequence[Answers], truth: Array) -> None:
        """Add rows."""
        for scores, parts, given in zip(self._scores, self._parts, answers, strict=True):
            scores.add(given, truth)
            parts.add(columns, given, truth)

    def figures(self) -> list[dict[str, float]]:
        """Return the measures of each, and those of slices, as far as they say anything."""
        return [
            {
                name: float(value)
                for name, value in {**scores.quality(), **parts.metrics()}.items()
                if math.isfinite(value)
            }
            for scores, parts in zip(self._scores, self._parts, strict=True)
        ]


def judge(
    candidate: Graph, champion: Graph, rows: Labelled, slices: Slices, measure: Measure, positive: int | str | None
) -> Judged:
    """Return how the candidate does beside the champion on rows. Raises NothingToMeasure where these say nothing."""
    compared = sorted({*classes_of_graph(candidate), *classes_of_graph(champion)}, key=str)
    alike: dict[str, Mean] = {}
    with ExitStack() as stack:
        answerers = [
            stack.enter_context(closing(answerer_of(each, positive, compared))) for each in (candidate, champion)
        ]
        task, whole = task_of_graph(candidate), _Pair(answerers, slices)
        sample = _Sample(task.grouped)
        names = [each.name for each in slices.fields]
        for columns, truth in rows:
            given, expected = (each.answers(columns, truth) for each in answerers)
            told = {name: columns[name] for name in names}
            whole.add(told, (given, expected), truth)
            sample.add((told, given, expected), truth)
            for name, mean in task.alike(expected, given).items():
                alike.setdefault(name, Mean()).add(mean, len(truth))
        if not sample.rows:
            raise NothingToMeasure(
                "expected rows with labels in that time to hold versions against each other, got none"
            )
        found = whole.figures()
        drawn = [_drawn(answerers, slices, sample) for _ in range(REPLICATES)]
    if measure.name not in found[0] or measure.name not in found[1]:
        raise NothingToMeasure(f"{sample.rows} rows say nothing of {measure.name}, by which versions are compared")
    ordered = [measure.name, *(each for each in task.measures if each != measure.name)]
    figures = [_figure(name, sample.rows, found, drawn, sample.scale) for name in ordered if name in found[0]]
    means = {name: mean.value for name, mean in alike.items()}
    return Judged(
        sample.rows, _verdict(figures[0], measure), tuple(figures), _worst(found, drawn, sample, measure), means
    )


def _drawn(answerers: Sequence[Measured], slices: Slices, sample: _Sample) -> list[dict[str, float]]:
    (columns, *answers), truth = sample.drawn()
    pair = _Pair(answerers, slices)
    pair.add(columns, answers, truth)
    return pair.figures()


def _figure(
    name: str,
    rows: int,
    found: Sequence[Mapping[str, float]],
    drawn: Sequence[Sequence[Mapping[str, float]]],
    scale: float,
) -> Figure:
    differences = [one[name] - other[name] for one, other in drawn if name in one and name in other]
    candidate, champion = found[0][name], found[1].get(name, math.nan)
    spread = float(np.std(differences)) * scale if len(differences) > REPLICATES // 2 else math.inf
    difference = candidate - champion
    return Figure(name, rows, candidate, champion, difference - _Z * spread, difference + _Z * spread)


def _verdict(figure: Figure, measure: Measure) -> str:
    low, high = (figure.low, figure.high) if measure.better == "more" else (-figure.high, -figure.low)
    # Rounding is no difference.
    if not measure.worse(figure.candidate, figure.champion) and not measure.worse(figure.champion, figure.candidate):
        return ALIKE
    return BETTER if low > 0 else WORSE if high < 0 else ALIKE


def _worst(
    found: Sequence[Mapping[str, float]],
    drawn: Sequence[Sequence[Mapping[str, float]]],
    sample: _Sample,
    measure: Measure,
) -> tuple[Figure, ...]:
    """Return the slices in which the candidate loses most by a measure."""
    ending, sign = f"/{measure.name}", 1.0 if measure.better == "more" else -1.0
    figures = []
    for name in found[0]:
        rows = int(found[0].get(f"{name.removesuffix(ending)}/rows", 0)) if name.endswith(ending) else 0
        if name.startswith("slice/") and rows >= LEAST_ROWS and name in found[1]:
            figures.append(_figure(name, rows, found, drawn, sample.scale))
    return tuple(sorted(figures, key=lambda each: sign * (each.candidate - each.champion))[:MOST_SLICES])
