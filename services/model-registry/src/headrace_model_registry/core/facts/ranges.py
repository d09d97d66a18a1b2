"""Ranges of producers' topics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceRange:
    """A half-open range of offsets in one partition of the producers' topic."""

    partition: int
    start: int
    end: int
