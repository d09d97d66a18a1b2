"""A call about records, as it came: what carries them, and how it names the model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Form(StrEnum):
    """What a body holds."""

    MESSAGE = "message"
    """A PredictRecordsRequest."""
    JSON = "json"
    """A record in JSON, an array of such, or one on each line."""
    LINES = "lines"
    """Records on lines of their own."""
    VALUE = "value"
    """One record, whatever its format is."""


@dataclass(frozen=True, slots=True)
class AskedRecords:
    """A call about records."""

    form: Form
    body: bytes
    model: str
    version: str
    priority: int = 0
    """From 1, the most urgent, to 5; 0 for what is usual."""
