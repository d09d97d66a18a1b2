"""Whether numbers keep the digits that tell them apart: in float64 while training, in the type of the answers after it.

Around a large number a float has wide steps: float32 of 128 around 1.7e9, float64 of 256 around 1.7e18. Where values
differ by little more than a step, a model learns and answers the steps, and no measurement of it says why.
"""

from collections.abc import Iterable

import numpy as np
from headrace_data.spec import Field
from headrace_data.tasks.regression import Errors
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


class WholeNumbers:
    """Whether whole numbers of 64 bits, which come batch by batch, differ by less than float64 can tell."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self._count = 0
        self._largest = np.zeros(field.size)
        self._first = np.zeros(field.size, dtype=np.int64)
        self._mean = np.zeros(field.size)
        self._squares = np.zeros(field.size)

    def add(self, values: Array) -> None:
        """Add a field's values as they were sent, [rows, *shape of the field]; other numbers are passed over."""
        if values.dtype != np.int64 or not len(values):
            return
        columns = values.reshape(len(values), -1)
        low, high = columns.min(axis=0), columns.max(axis=0)
        self._largest = np.maximum.reduce([self._largest, *(np.abs(each.astype(np.float64)) for each in (low, high))])
        if not self._count:
            self._first = low
        # Differences of 64 bits are exact in unsigned numbers, wherever they begin.
        above = (columns.view(np.uint64) - low.view(np.uint64)).astype(np.float64)
        count, total = len(values), self._count + len(values)
        mean = above.mean(axis=0)
        delta = mean + _difference(low, self._first) - self._mean
        # Merged as in Chan, Golub and LeVeque (1979); means are counted from the first batch's smallest number.
        self._squares += np.square(above - mean).sum(axis=0) + np.square(delta) * (self._count * count / total)
        self._mean += delta * (count / total)
        self._count = total

    def require(self) -> None:
        """Raise TooManyDigits where they do. Numbers that are all equal pass."""
        if not self._count:
            return
        field, largest, spread = self.field, self._largest, np.sqrt(self._squares / self._count)
        lost = (largest > EXACT) & (spread > 0) & (spread < _FEWEST_STEPS * np.spacing(largest))
        if lost.any():
            place = int(np.argmax(lost))
            raise TooManyDigits(
                f"{field.role} {field.name!r}: expected whole numbers up to {EXACT}, or that differ by far more than "
                f"{np.spacing(largest[place]):g}, got some around {largest[place]:.6g} with a deviation of "
                f"{spread[place]:.6g}: numbers are computed in float64, which cannot tell them apart. Have the "
                "producer send them less a constant, such as the first one; names that are numbers are better sent as "
                "texts"
            )


def _difference(one: Array, other: Array) -> Array:
    """Return one less the other, int64 both, as float64 that is exact before it is rounded."""
    ones, others = one.view(np.uint64), other.view(np.uint64)
    return np.where(one >= other, (ones - others).astype(np.float64), -(others - ones).astype(np.float64))


class _Rounded:
    """How far a model's answers are from the truth, and how far they are in float32."""

    def __init__(self) -> None:
        self._exactly, self._coarsely, self._largest = Errors(), Errors(), 0.0

    def add(self, predictions: Array, truth: Array) -> None:
        """Add rows, both [rows]."""
        self._exactly.add(predictions, truth)
        self._coarsely.add(predictions.astype(np.float32), truth)
        self._largest = max(self._largest, float(np.abs(predictions).max()))

    def require(self, label: Field, place: str, deviation: float) -> None:
        """Raise TooManyDigits where the second is much further; `place` is that of the label, empty where it has none.

        A model without a finite error passes: what is wrong with it is told elsewhere.
        """
        exact, coarse, largest = self._exactly.rmse, self._coarsely.rmse, self._largest
        if not coarse - exact > _MOST_RISE * max(exact, _LEAST_ERROR * deviation):
            return
        step = float(np.spacing(np.float32(largest)))
        what = f"have steps of {step:.6g}" if np.isfinite(step) else "are infinite"
        also = (
            "; and as float32 rounds the label itself, give it the type float64, under another metadata.name"
            if label.type == "float32"
            else ""
        )
        raise TooManyDigits(
            f"label {label.name!r}{place and f' at {place!r}'}: answers of type float32 around {largest:.6g} {what}, "
            f"where the label's deviation is {deviation:.6g}: rmse {coarse:.6g} instead of {exact:.6g}. Set "
            f"train.predictionType: float64, and have clients read FP64{also}"
        )


def require_float32(label: Field, answers: Iterable[tuple[Array, Array]], deviation: float | Array) -> None:
    """Raise TooManyDigits where answers in float32 are much further from the truth than the model is.

    `answers` are batches of the model's in float64 and of the label's values, both [rows, *shape of the label];
    `deviation` is the label's, of one with places [places]. Each place is looked at by itself: they have units of their
    own.
    """
    places = [_Rounded() for _ in range(label.size)]
    with np.errstate(over="ignore", invalid="ignore"):
        for given, expected in answers:
            columns = (each.reshape(len(each), -1).T for each in (given, expected))
            for rounded, predictions, truth in zip(places, *columns, strict=True):
                rounded.add(predictions, truth)
        of_places = zip(places, label.place_names or ("",), np.broadcast_to(deviation, label.size), strict=True)
        for rounded, place, spread in of_places:
            rounded.require(label, place, float(spread))
