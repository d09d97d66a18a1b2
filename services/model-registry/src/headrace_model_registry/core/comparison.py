"""A candidate beside the champion on the same rows: the test splits of both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headrace_model_registry.core.facts import Evaluation

_ROUNDING = 1e-9
"""Squares that differ by less are equal: sums in another order do."""


@dataclass(frozen=True, slots=True)
class Score:
    """Rows that one version answered rightly, of how many."""

    right: int
    rows: int

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.right / self.rows if self.rows else 0.0

    def __str__(self) -> str:
        return f"{self.right} of {self.rows} right (accuracy {self.accuracy:.4f})"


@dataclass(frozen=True, slots=True)
class Errors:
    """Squared errors of one version's predictions, summed over so many rows, in the label's unit squared."""

    squares: float
    rows: int

    @property
    def rmse(self) -> float:
        """Root of the mean squared error, in the label's unit."""
        return math.sqrt(self.squares / self.rows) if self.rows else 0.0

    def __str__(self) -> str:
        return f"rmse {self.rmse:.6g} over {self.rows} rows"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate and champion on the same rows, by dataset id in `rows`: both as scores, or both as errors."""

    candidate: Score | Errors
    champion: Score | Errors
    rows: tuple[tuple[str, int], ...]

    @property
    def worse(self) -> bool:
        """Whether the candidate answers worse."""
        return _worse(self.candidate, self.champion)

    @property
    def tied(self) -> bool:
        """Whether both answer equally well: the version that has seen newer data wins then."""
        return not self.worse and not _worse(self.champion, self.candidate)


def _worse(one: Score | Errors, other: Score | Errors) -> bool:
    if isinstance(one, Errors) and isinstance(other, Errors):
        return one.squares > other.squares * (1.0 + _ROUNDING)
    if isinstance(one, Score) and isinstance(other, Score):
        return one.right < other.right
    raise TypeError("expected two scores or two errors, got one of each")


def compare(
    evaluations: Sequence[Evaluation], candidate_id: str, champion_id: str, dataset_ids: Sequence[str]
) -> Comparison | str:
    """Return what both versions achieve over the union of the datasets' test splits, or what is missing for it.

    Each dataset counts once and by its rows, so the figures are counts of right answers, or of a regression sums of
    squared errors: a mean of the datasets' accuracies would let ten rows outvote ten thousand.
    """
    measured = {(each.version_id, each.dataset_id): each for each in evaluations}
    regression = any("rmse" in each.metrics for each in evaluations if each.version_id == candidate_id)
    metric, amount = ("rmse", _squares) if regression else ("accuracy", _right)
    rows: list[tuple[str, int]] = []
    amounts = {candidate_id: 0.0, champion_id: 0.0}
    for dataset_id in dict.fromkeys(dataset_ids):
        counts: set[int] = set()
        for version_id in amounts:
            evaluation = measured.get((version_id, dataset_id))
            if evaluation is None or metric not in evaluation.metrics:
                return f"the {metric} of version {version_id} on dataset {dataset_id} was not measured"
            added = amount(evaluation)
            if isinstance(added, str):
                return f"the {metric} of version {version_id} on dataset {dataset_id} is {added}"
            amounts[version_id] += added
            counts.add(evaluation.rows)
        if len(counts) != 1:
            return f"candidate and champion were measured on different rows of dataset {dataset_id}: {sorted(counts)}"
        rows.append((dataset_id, counts.pop()))
    total = sum(count for _, count in rows)

    def achieved(version_id: str) -> Score | Errors:
        return Errors(amounts[version_id], total) if regression else Score(round(amounts[version_id]), total)

    return Comparison(achieved(candidate_id), achieved(champion_id), tuple(rows))


def _right(evaluation: Evaluation) -> float | str:
    accuracy = evaluation.metrics["accuracy"]
    return round(accuracy * evaluation.rows) if 0.0 <= accuracy <= 1.0 else f"{accuracy}, expected 0 to 1"


def _squares(evaluation: Evaluation) -> float | str:
    rmse = evaluation.metrics["rmse"]
    return rmse * rmse * evaluation.rows if 0.0 <= rmse < math.inf else f"{rmse}, expected a finite error"
