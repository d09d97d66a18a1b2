"""One try of a search for good settings, as an event has it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trial:
    """One try of a search for good settings. `values` are JSON, by path below train."""

    number: int
    values: Mapping[str, str]
    state: str
    epochs: int = 0
    score: float = 0.0
    reason: str = ""
    chosen: bool = False
