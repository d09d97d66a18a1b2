"""What is suspected of a segment, and what was decided about it."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import pydantic

from headrace_data.manifest import Document

Figure = Literal["rejected", "missing", "scale", "median"]
"""What changed too much."""
LARGEST = 1.7e308
"""Stands for all figures beyond."""


def _finite(value: float) -> float:
    return max(-LARGEST, min(LARGEST, value)) if math.isfinite(value) else LARGEST


Number = Annotated[float, pydantic.BeforeValidator(_finite)]


class Suspicion(Document):
    """One figure that changed more than any honest change of the world does."""

    field: str = ""
    """Name of the field; empty where it is of all records."""
    figure: Figure
    """Which figure: a share of records or values, 0 to 1, or a number in the field's unit."""
    before: Number
    """What it was in the segments before."""
    after: Number
    """What it is in this one."""

    def __str__(self) -> str:
        of = f"field {self.field!r}: " if self.field else ""
        before, after = (_shown(self.figure, value) for value in (self.before, self.after))
        return f"{of}{_NAMES[self.figure]} was {before}, and is {after}"


class Held(Document):
    """Why a segment counts for no dataset."""

    suspicions: tuple[Suspicion, ...]
    """What is suspected of it."""
    dropped: bool = pydantic.Field(default=False, exclude_if=lambda value: not value)
    """Whether it was decided that it never counts."""

    def __str__(self) -> str:
        return "; ".join(map(str, self.suspicions))


_NAMES = {
    "rejected": "the share of records that are rejected",
    "missing": "the share that is missing",
    "scale": "the scale",
    "median": "the median",
}


def _shown(figure: Figure, value: float) -> str:
    return f"{value:.1%}" if figure in ("rejected", "missing") else f"{value:.4g}"
