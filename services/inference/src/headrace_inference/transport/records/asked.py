"""A call about records, as it came: what carries them, and how it names the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


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


class Lying(NamedTuple):
    """Where a record lies that came on a topic."""

    topic: str
    partition: int
    offset: int
    line: int = 0
    """Its line in the message there, from 0."""


@dataclass(frozen=True, slots=True)
class AskedRecords:
    """A call about records."""

    form: Form
    body: bytes
    model: str
    version: str
    priority: int = 0
    """From 1, the most urgent, to 5; 0 for what is usual."""
    pipeline: str = ""
    """By whose spec they are read; empty for the pipeline of the version that is asked."""
    places: Sequence[Lying] = ()
    """Where each of them lies, of those that came on a topic: their answers are told one by one, with that."""
