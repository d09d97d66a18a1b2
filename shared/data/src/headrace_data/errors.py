"""What can go wrong with specs, batches and datasets.

DataError
├── SpecInvalid        a pipeline document has problems; carries every one of them
├── BatchInvalid       Arrow bytes or columns are not what the pipeline's schema says
├── ManifestInvalid    bytes are no manifest
├── DatasetInvalid     a dataset's parts contradict its manifest, or rows came out of order
├── DatasetUnusable    the rows cannot be learned from: a split is empty, or the label has one value
├── FileInvalid        a file of rows cannot be read, or lacks a column
├── KeyMissing         the key of personal fields is not there, or is none
├── SelectInvalid      a SELECT over records has problems; carries every one of them
├── SelectTooSlow      a SELECT takes too long over the records that came
└── FilesTooSlow       reading the files of one batch takes too long
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DataError(Exception):
    """Base of every error of this package."""


@dataclass(frozen=True, order=True)
class Problem:
    """One fault of a pipeline document."""

    line: int
    """Line in the document, from 1."""
    path: str
    """Where it is, such as ``stream.schema[2].range``; empty for the document itself."""
    message: str
    """What was expected and what came."""

    def __str__(self) -> str:
        return f"line {self.line}: {self.path + ': ' if self.path else ''}{self.message}"


class SpecInvalid(DataError):
    """A pipeline document has problems. ``problems`` holds all of them, ordered by line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class BatchInvalid(DataError):
    """Arrow bytes or columns are not what the pipeline's schema says."""


class ManifestInvalid(DataError):
    """Bytes are no manifest."""


class DatasetInvalid(DataError):
    """A dataset's parts contradict its manifest, or rows came out of order."""


class DatasetUnusable(DataError):
    """The rows cannot be learned from."""


class FileInvalid(DataError):
    """A file of rows cannot be read, or lacks a column."""


class KeyMissing(DataError):
    """The key that personal fields are hashed or tokenised with is not there, or is none."""


class SelectInvalid(DataError):
    """A SELECT over records has problems. ``problems`` holds all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


class SelectTooSlow(DataError):
    """A SELECT takes too long over the records that came, one by one too."""


class FilesTooSlow(DataError):
    """Reading the files of one batch was stopped too often."""
