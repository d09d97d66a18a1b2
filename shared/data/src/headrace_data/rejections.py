"""Why a record is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rejection:
    """Why one record was refused."""

    position: int
    """Position in the batch that was given, from 0."""
    rule: str
    """The rule that it breaks, such as ``type``."""
    field: str
    """The field it breaks it with; empty when the record as a whole is wrong."""
    reason: str
    """What was expected and what came, naming the field."""
    forgotten: bool = False
    """Whether its key was forgotten: nothing is told of what it holds."""
