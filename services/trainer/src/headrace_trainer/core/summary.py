"""What a run must know of the training split before it learns from it, taken batch by batch."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from headrace_data.spec import Field
from headrace_data.tasks import Always
from headrace_data.tasks.classification import always_one_class
from headrace_data.tasks.regression import always_the_mean
from headrace_learning.building import LabelScale
from headrace_learning.graphs import Array, Columns

from headrace_trainer.core.precision import WholeNumbers


class Summary:
    """The labels of the training split, which features it has values of, and how far its whole numbers are apart.

    Of one batch the figures are those of all rows at once, to the last bit.
    """

    def __init__(self, features: Sequence[Field], label: Field, *, regression: bool) -> None:
        self._label = label.name
        self._regression = regression
        self._empty = [field.name for field in features]
        self._whole = [WholeNumbers(field) for field in (*features, *([label] if regression else []))]
        self.counts: Counter[int | str] = Counter()
        """Rows by the value of the label; empty for a regression."""
        self._moments = _Moments()

    def add(self, columns: Columns, sent: Callable[[Field], Array]) -> None:
        """Add rows: features and label by name, at least one row. `sent` returns a field's values as they were sent."""
        for whole in self._whole:
            whole.add(sent(whole.field))
        self._empty = [name for name in self._empty if not _any(columns[name])]
        if self._regression:
            self._moments.add(columns[self._label].astype(np.float64))
        else:
            values, counts = np.unique(columns[self._label], return_counts=True)
            self.counts.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def require_digits(self) -> None:
        """Raise TooManyDigits where features, or a label that is predicted, differ by less than float64 can tell."""
        for whole in self._whole:
            whole.require()

    @property
    def missing(self) -> dict[str, float]:
        """1 by missing/<feature>, of each feature that no row has."""
        return {f"missing/{name}": 1.0 for name in self._empty}

    @property
    def scale(self) -> LabelScale:
        """Mean and deviation of a label that is a number. Where all labels are equal, the mean says it all."""
        return LabelScale(self._moments.mean, self._moments.deviation or 1.0)

    def baseline(self, positive: int | str | None = None) -> Always:
        """Return what measures the answer that looks at no feature; `positive` is the class that is looked for."""
        return always_the_mean(self._moments.mean) if self._regression else always_one_class(self.counts, positive)


class _Moments:
    """Mean and deviation, merged as in Chan, Golub and LeVeque (1979)."""

    def __init__(self) -> None:
        self._count = 0
        self._squares = 0.0
        self.mean = 0.0

    def add(self, values: Array) -> None:
        mean, count = float(values.mean()), len(values)
        delta, total = mean - self.mean, self._count + count
        self._squares += float(np.square(values - mean).sum()) + delta * delta * (self._count * count / total)
        self.mean += delta * (count / total)
        self._count = total

    @property
    def deviation(self) -> float:
        return float(np.sqrt(self._squares / self._count))


def _any(values: Array) -> bool:
    """Return whether any row has a value of a feature."""
    return bool((values != "").any() if values.dtype == object else (values == values).any())
