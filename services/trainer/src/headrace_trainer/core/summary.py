"""What a run must know of the training split before it learns from it, taken batch by batch."""

from collections.abc import Callable, Sequence

from headrace_data.spec import Field
from headrace_data.tasks import Labels
from headrace_learning.graphs import Array, Columns

from headrace_trainer.core.precision import WholeNumbers


class Summary:
    """Which features the training split has values of, and how far its whole numbers are apart.

    Of one batch the figures are those of all rows at once, to the last bit.
    """

    def __init__(self, features: Sequence[Field], label: Field, labels: Labels, *, whole: bool) -> None:
        """`labels` takes note of the labels; `whole` says that these are numbers, maybe too large to be told apart."""
        self._label, self._labels = label.name, labels
        self._empty = [field.name for field in features]
        self._whole = [WholeNumbers(field) for field in (*features, *([label] if whole else []))]

    def add(self, columns: Columns, sent: Callable[[Field], Array]) -> None:
        """Add rows: features and label by name, at least one row. `sent` returns a field's values as they were sent."""
        for whole in self._whole:
            whole.add(sent(whole.field))
        self._empty = [name for name in self._empty if not _any(columns[name])]
        self._labels.add(columns[self._label])

    def require_digits(self) -> None:
        """Raise TooManyDigits where features, or a label that is predicted, differ by less than float64 can tell."""
        for whole in self._whole:
            whole.require()

    @property
    def missing(self) -> dict[str, float]:
        """1 by missing/<feature>, of each feature that no row has."""
        return {f"missing/{name}": 1.0 for name in self._empty}


def _any(values: Array) -> bool:
    """Return whether any row has a value of a feature."""
    return bool((values != "").any() if values.dtype == object else (values == values).any())
