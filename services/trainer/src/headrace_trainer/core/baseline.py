"""What an answer that looks at no feature would reach: the mark that a version must beat to have learned anything."""

import numpy as np
from headrace_learning.graphs import Array


def baseline(learned: Array, truth: Array, *, regression: bool) -> dict[str, float]:
    """Return what the training split's commonest label, or its mean, scores on the labels of the test split.

    Of a classification baseline_accuracy/<class>, where <class> is the commonest (the first in order where several
    are), in 0 to 1; of a regression baseline_rmse, in the label's unit. Neither array is empty.
    """
    if regression:
        errors = truth.astype(np.float64) - float(learned.astype(np.float64).mean())
        return {"baseline_rmse": float(np.sqrt(np.square(errors).mean()))}
    values, counts = np.unique(learned, return_counts=True)
    commonest = values[int(counts.argmax())]
    return {f"baseline_accuracy/{commonest}": float(np.mean(truth == commonest))}
