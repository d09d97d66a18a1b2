"""Whether numbers keep the digits that tell them apart: in float64 while training, in the type of the answers after it.

Around a large number a float has wide steps: float32 of 128 around 1.7e9, float64 of 256 around 1.7e18. Where values
differ by little more than a step, a model learns and answers the steps, and no measurement of it says why.
"""

import numpy as np
from headrace_data.spec import Field
from headrace_learning.evaluation import errors_of
from headrace_learning.graphs import Array

from headrace_trainer.errors import TooManyDigits

EXACT = 2**53
"""Up to here float64 holds every whole number."""
_FEWEST_STEPS = 100
"""So many steps of float64 a standard deviation is at least."""
_MOST_RISE = 0.02
"""The most that rounding may add to the error, as a share of it, and as one of `_LEAST_ERROR` below that."""
_LEAST_ERROR = 0.1
"""The error, in deviations of the label, below which what rounding adds is held against this."""


def require_whole_numbers(field: Field, values: Array) -> None:
    """Raise TooManyDigits where whole numbers of 64 bits differ by less than float64 can tell.

    `values` are a field's in the training split, [rows, *shape of the field]. Numbers that are all equal pass.
    """
    if values.dtype != np.int64 or not len(values):
        return
    columns = values.reshape(len(values), -1)
    low, high = columns.min(axis=0), columns.max(axis=0)
    largest = np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))
    # Differences of 64 bits are exact in unsigned numbers, wherever they begin.
    spread = (columns.view(np.uint64) - low.view(np.uint64)).astype(np.float64).std(axis=0)
    lost = (largest > EXACT) & (spread > 0) & (spread < _FEWEST_STEPS * np.spacing(largest))
    if lost.any():
        place = int(np.argmax(lost))
        raise TooManyDigits(
            f"{field.role} {field.name!r}: expected whole numbers up to {EXACT}, or that differ by far more than "
            f"{np.spacing(largest[place]):g}, got some around {largest[place]:.6g} with a deviation of "
            f"{spread[place]:.6g}: numbers are computed in float64, which cannot tell them apart. Have the producer "
            "send them less a constant, such as the first one; names that are numbers are better sent as texts"
        )


def require_float32(label: Field, predictions: Array, truth: Array, deviation: float) -> None:
    """Raise TooManyDigits where answers in float32 are much further from the truth than the model is.

    `predictions` are the model's in float64 and `truth` the label's values, both [rows]; `deviation` is the label's.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = predictions.astype(np.float32)
        exact, coarse = (errors_of(values, truth)["rmse"] for values in (predictions, rounded))
        # Written so that a model without a finite error passes: what is wrong with it is told elsewhere.
        if not coarse - exact > _MOST_RISE * max(exact, _LEAST_ERROR * deviation):
            return
        largest = float(np.abs(predictions).max())
        step = float(np.spacing(np.float32(largest)))
    what = f"have steps of {step:.6g}" if np.isfinite(step) else "are infinite"
    also = (
        "; and as float32 rounds the label itself, give it the type float64, under another metadata.name"
        if label.type == "float32"
        else ""
    )
    raise TooManyDigits(
        f"label {label.name!r}: answers of type float32 around {largest:.6g} {what}, where the label's deviation "
        f"is {deviation:.6g}: rmse {coarse:.6g} instead of {exact:.6g}. Set train.predictionType: float64, "
        f"and have clients read FP64{also}"
    )
