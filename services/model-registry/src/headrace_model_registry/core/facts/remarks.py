"""What preprocessing says of a dataset, for which it may be better not to train on it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClassRows:
    """The rows of a class in a split."""

    label: str
    split: str
    rows: int


@dataclass(frozen=True, slots=True)
class Leaks:
    """Training rows that validation or test has, too: the same ones, further ones that are nearly so, and the first."""

    exact: int
    near: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outliers:
    """Beyond which values of a field training rows were left out, and how many."""

    field: str
    low: float
    high: float
    rows: int
