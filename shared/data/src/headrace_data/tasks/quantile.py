"""Forecast by quantiles: numbers below which the label is with given probabilities, in order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final

import numpy as np
import pydantic

from headrace_data.tasks.gate import rise
from headrace_data.tasks.measure import AVERAGED, Array, Mean, Measure, require_rows
from headrace_data.tasks.regression import MOST_STEPS, Moments
from headrace_data.tasks.task import Always, Answers, Classes, Task

QUANTILES: Final = "quantiles"
"""The output of a served graph: [rows, levels] float32 or float64, in the label's unit; no row falls. Of a label with
places, such as the steps of a horizon, [rows, places, levels]."""
LEVELS: Final = (0.1, 0.5, 0.9)
"""The levels where a document says none."""
MEDIAN: Final = 0.5
PINBALL: Final = Measure("pinball", "label", "less", "pinball loss", "mean over the levels", AVERAGED)
COVERAGE: Final = Measure("coverage", "share", "more", "coverage", "rows between the outer quantiles")
COVERAGE_ERROR: Final = Measure("coverage_error", "share", "less", "coverage error", "from what the levels promise")
MEDIAN_MAE: Final = Measure("median_mae", "label", "less", "mae of the median", "mean absolute error", AVERAGED)
MOST_LABELS: Final = 2**22
"""Labels that are kept to take quantiles of, 32 MiB: of up to so many they are exact."""


def _in_order(levels: tuple[float, ...]) -> tuple[float, ...]:
    if any(after <= before for before, after in pairwise(levels)) or MEDIAN not in levels:
        raise ValueError(f"expected rising levels with {MEDIAN} among them, by which errors are told")
    return levels


class QuantileSettings(pydantic.BaseModel):
    """What `train` says of quantiles."""

    quantiles: (
        Annotated[
            tuple[Annotated[float, pydantic.Field(gt=0, lt=1)], ...],
            pydantic.Field(min_length=2, max_length=99),
            pydantic.AfterValidator(_in_order),
        ]
        | None
    ) = pydantic.Field(
        default=None,
        description="Of the task quantile: the probabilities with which the label is below each number answered, "
        f"rising, with 0.5 among them. Left out: {', '.join(map(str, LEVELS))}.",
    )


class QuantileScores:
    """Measurements of answered quantiles: over all steps, and of each where there are several."""

    def __init__(self, levels: Sequence[float], steps: Classes = ()) -> None:
        """`levels` are those of the answers' places, `steps` the names of the label's."""
        self._levels = np.array(levels, dtype=np.float64)
        self._steps = steps
        self._of_steps: list[tuple[Mean, Mean]] = [(Mean(), Mean()) for _ in steps]
        """Pinball loss and coverage of each step."""
        self._rows = 0
        self._covered = 0
        self._pinball, self._median = Mean(), Mean()

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows, in the label's unit; at least one."""
        given, expected = answers[QUANTILES].astype(np.float64), truth.astype(np.float64)
        require_rows(given, expected)
        above = expected[..., np.newaxis] - given
        losses = np.maximum(self._levels * above, (self._levels - 1) * above)
        inside = (above[..., 0] >= 0) & (above[..., -1] <= 0)
        self._pinball.add(float(losses.mean()), len(truth))
        self._median.add(float(np.abs(above[..., middle(self._levels)]).mean()), len(truth))
        self._covered += int(inside.sum())
        self._rows += inside.size
        for at, (pinball, covered) in enumerate(self._of_steps):
            pinball.add(float(losses[:, at].mean()), len(truth))
            covered.add(float(inside[:, at].mean()), len(truth))

    def quality(self) -> dict[str, float]:
        """Return the measures. Pinball is the mean of the levels' losses (Koenker and Bassett, 1978)."""
        covered = self._covered / self._rows
        return {
            PINBALL.name: self._pinball.value,
            COVERAGE.name: covered,
            COVERAGE_ERROR.name: abs(covered - float(self._levels[-1] - self._levels[0])),
            MEDIAN_MAE.name: self._median.value,
        }

    def metrics(self) -> dict[str, float]:
        """Return the same, and pinball/<step> and coverage/<step>; of more than `MOST_STEPS` none of these."""
        if len(self._steps) > MOST_STEPS:
            return self.quality()
        of_steps = list(zip(self._steps, self._of_steps, strict=True))
        parts = {f"{PINBALL.name}/{step}": pinball.value for step, (pinball, _) in of_steps}
        return self.quality() | parts | {f"{COVERAGE.name}/{step}": covered.value for step, (_, covered) in of_steps}


class OrderedLabels(Moments):
    """Mean, deviation and quantiles of labels.

    Of more than `most` every second one is kept, of twice as many every fourth, and so on.
    """

    def __init__(self, levels: Sequence[float], most: int = MOST_LABELS, steps: Classes = ()) -> None:
        super().__init__(steps)
        self._levels, self._most = levels, most
        self._seen, self._step = 0, 1
        self._kept = np.empty((0, *([len(steps)] if steps else [])))

    def add(self, labels: Array) -> None:
        """Add the labels of some rows."""
        super().add(labels)
        kept = labels[-self._seen % self._step :: self._step].astype(np.float64)
        self._kept = np.concatenate([self._kept, kept])
        self._seen += len(labels)
        while self._kept.size > self._most and len(self._kept) > 1:
            self._kept, self._step = self._kept[::2].copy(), self._step * 2

    def quantiles(self) -> Array:
        """Return the training split's quantiles, [levels] float64; of a label with places [places, levels]."""
        return np.quantile(self._kept, self._levels, axis=0, method="inverted_cdf").T

    def baseline(self) -> Always:
        """Return what measures always the training split's quantiles."""
        values, scores = self.quantiles(), QuantileScores(self._levels, self.steps)
        return Always(scores, lambda rows: {QUANTILES: np.broadcast_to(values, (rows, *values.shape))}, {})


def levels_of(train: QuantileSettings) -> tuple[float, ...]:
    """Return the levels that a document asks for."""
    return train.quantiles or LEVELS


def middle(levels: Sequence[float] | Array) -> int:
    """Return the place of the median, or of the level nearest to it."""
    return int(np.argmin(np.abs(np.asarray(levels) - MEDIAN)))


class Quantile(Task):
    """Numbers below which the label is with given probabilities, at each of its places."""

    kind = "quantile"
    answer = "numbers below which the label, or what is at each of its places, is with the probabilities `quantiles`"
    unfit = frozenset({"string", "bool"})
    dimensions = frozenset({0, 1})
    unfit_networks = frozenset({"imported", "trees"})
    answers_numbers = True
    heeds = frozenset({"predictionType", "quantiles"})
    outputs = (QUANTILES,)
    headline = PINBALL
    loss = PINBALL
    measured = (PINBALL, COVERAGE, MEDIAN_MAE, COVERAGE_ERROR)
    won_by_constants = frozenset({COVERAGE.name, COVERAGE_ERROR.name})
    unfit_to_choose = frozenset({COVERAGE.name})
    beside = COVERAGE.name
    always = "always answering the same quantiles"
    gates = (rise(PINBALL),)

    def labels(self, train: QuantileSettings, places: Classes = ()) -> OrderedLabels:
        """Return what takes note of quantiles too."""
        return OrderedLabels(levels_of(train), steps=places)

    def places(self, train: QuantileSettings, values: Classes) -> Classes:
        """Return the levels as texts."""
        return tuple(map(str, levels_of(train)))

    def question(self, train: QuantileSettings) -> object:
        """Return the levels: the pinball losses of others mean something else."""
        return levels_of(train)

    def point(self, answers: Answers, places: Classes) -> Array:
        """Return the medians."""
        return answers[QUANTILES][..., middle([float(level) for level in places])]

    def scores(
        self, classes: Classes, positive: int | str | None = None, compared: Classes = (), steps: Classes = ()
    ) -> QuantileScores:
        """Return what measures answers; `classes` are the levels as texts."""
        return QuantileScores([float(level) for level in classes], steps)
