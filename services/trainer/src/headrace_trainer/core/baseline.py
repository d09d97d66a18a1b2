"""What an answer that looks at no feature would reach: the mark that a version must beat to have learned anything."""

import numpy as np
from headrace_learning.evaluation import Mean
from headrace_learning.graphs import Array


class Baseline:
    """What always the same answer scores on rows that come batch by batch."""

    def __init__(self, answer: int | str | float, *, regression: bool) -> None:
        """Answer the training split's commonest label, or its mean."""
        self._answer = answer
        self._regression = regression
        self._mean = Mean()

    def add(self, truth: Array) -> None:
        """Add the labels of some rows; at least one."""
        if self._regression:
            mean = np.square(truth.astype(np.float64) - float(self._answer)).mean()
        else:
            mean = np.mean(truth == self._answer)
        self._mean.add(float(mean), len(truth))

    def metrics(self) -> dict[str, float]:
        """Return baseline_accuracy/<answer>, in 0 to 1, of a classification, or baseline_rmse, in the label's unit."""
        if self._regression:
            return {"baseline_rmse": float(np.sqrt(self._mean.value))}
        return {f"baseline_accuracy/{self._answer}": self._mean.value}
