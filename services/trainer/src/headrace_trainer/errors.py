"""Everything that ends a training run for good.

::

    TrainingError
    ├── WrongDataset   the dataset does not hold what the pipeline asks for
    ├── WrongOrigin    the version to begin from is not there, or is none of a network
    ├── DoesNotFit     the network takes more memory than there is
    ├── NotMeasurable  what was trained has no finite measurements on the test split
    └── TooManyDigits  numbers differ in digits only that the type they are computed or answered in does not have
"""

import math
from collections.abc import Mapping


class TrainingError(Exception):
    """Base of every error of this service: another attempt would end the same way."""


class WrongDataset(TrainingError):
    """The dataset does not hold what the pipeline asks for."""


class WrongOrigin(TrainingError):
    """The version to begin from is not there, or is none of a network."""


class DoesNotFit(TrainingError):
    """The network and its rows take more memory than there is."""

    def __init__(self, parameters: int, rows: int, needed_bytes: int, total_bytes: int, *, by_budget: bool) -> None:
        more = "raise train.budget.memory" if by_budget else "give the trainer more memory"
        super().__init__(
            f"train.network: expected to need at most the {total_bytes / 1e6:,.0f} MB of memory that it may take here, "
            f"got {parameters:,} parameters and {rows:,} rows, which need at least {needed_bytes / 1e6:,.0f} MB to "
            f"train; make its layers or train.batchSize smaller, freeze fewer rows, or {more}"
        )


class NotMeasurable(TrainingError):
    """What was trained has no finite measurements on the test split."""

    def __init__(self, metrics: Mapping[str, float]) -> None:
        told = ", ".join(f"{name} {value}" for name, value in metrics.items() if not math.isfinite(value))
        super().__init__(
            f"test split: expected finite measurements, got {told}; "
            "give features ranges in the schema, so that values far beyond the others are dropped"
        )


class TooManyDigits(TrainingError):
    """Numbers differ in digits only that the type they are computed or answered in does not have."""
