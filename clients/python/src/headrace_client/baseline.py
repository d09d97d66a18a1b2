"""A version beside an answer that looks at no feature: always the commonest class, or the mean of a regression.

The trainer measures it with the version, on the same rows. Versions from before it did have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_ACCURACY: Final = "baseline_accuracy/"
_RMSE: Final = "baseline_rmse"


@dataclass(frozen=True)
class Baseline:
    """What always the same answer scores, and what the version does."""

    answer: str | None
    """The class that is always answered; None for a regression, which answers the mean."""
    value: float
    """Its accuracy, or its rmse in the label's unit."""
    measured: float
    """The version's own."""

    @property
    def metric(self) -> str:
        """What both are measured by."""
        return "rmse" if self.answer is None else "accuracy"

    @property
    def always(self) -> str:
        """The answer in words, such as "always answering 'Adelie'"."""
        return "always answering the mean" if self.answer is None else f"always answering '{self.answer}'"

    @property
    def no_better(self) -> bool:
        """Whether the version answers no better."""
        return self.measured >= self.value if self.answer is None else self.measured <= self.value


def baseline_of(metrics: Mapping[str, float]) -> Baseline | None:
    """Return the baseline of a version, given its metrics; None when none was measured."""
    if _RMSE in metrics and "rmse" in metrics:
        return Baseline(None, metrics[_RMSE], metrics["rmse"])
    named = next((name for name in metrics if name.startswith(_ACCURACY)), None)
    if named is None or "accuracy" not in metrics:
        return None
    return Baseline(named.removeprefix(_ACCURACY), metrics[named], metrics["accuracy"])


def warning(metrics: Mapping[str, float]) -> str:
    """Return that a version is no better than its baseline, with both measurements; empty when it is better."""
    found = baseline_of(metrics)
    if found is None or not found.no_better:
        return ""
    return f"no better than {found.always}: {found.metric} {found.measured:.4f}, and {found.value:.4f} so"
