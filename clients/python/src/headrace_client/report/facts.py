"""What a report is about: plain values and arrays, already fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from headrace_data.manifest import Manifest
from headrace_data.split import SplitName

from headrace_client.views import View

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Example:
    """A dead letter, by its id: what was expected and what came."""

    letter: str
    rule: str
    field: str
    reason: str


@dataclass(frozen=True)
class Letters:
    """The dead letters of the ranges that a dataset is of."""

    by_field: Mapping[str, Mapping[str, int]]
    """Of each field, how many records broke which rule with it; those that broke one as a whole stand under ''."""
    examples: Sequence[Example] = ()
    """One of each rule and field."""
    looked_at: int = 0
    """How many letters of the pipeline were looked at."""


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset and the rows that were read of it."""

    dataset: View
    """As `dataset_view` shows it."""
    manifest: Manifest
    columns: Mapping[SplitName, Mapping[str, Array]]
    """By split, by field: features and label as a model is called with them, [rows, *shape]."""
    versions: Sequence[View] = ()
    """Versions that were trained on it."""
    letters: Letters | None = None
    """None where ingestion could not be asked."""
    held: Sequence[View] = ()
    """The segments of its pipeline that are held or were dropped, oldest first."""

    @property
    def rows_read(self) -> int:
        """Rows in `columns`."""
        label = self.manifest.label.name
        return sum(len(columns[label]) for columns in self.columns.values())

    def all_rows(self, name: str) -> Array:
        """Return one column over all splits."""
        return np.concatenate([columns[name] for columns in self.columns.values()])


def class_name(value: Any, *, flag: bool) -> str:
    """Return what a class is called; a boolean is 1 or 0 in datasets and answers, and true or false to people."""
    return {"0": "false", "1": "true"}.get(str(value), str(value)) if flag else str(value)


@dataclass(frozen=True)
class Answers:
    """What a classifier answered to the test split."""

    variant: str
    truth: Array
    """[rows] label values."""
    labels: Array
    """[rows] label values."""
    probabilities: Array
    """[rows, classes]."""
    classes: Sequence[Any]
    flag: bool = False
    """Whether the label is a boolean."""

    def name_of(self, value: Any) -> str:
        """Return what a class is called."""
        return class_name(value, flag=self.flag)


@dataclass(frozen=True)
class Tags:
    """What was answered to the test split by a task that says of each place of the label whether it is there."""

    variant: str
    truth: Array
    """[rows, places] of 1 and 0."""
    labels: Array
    """[rows, places] of 1 and 0."""
    places: Sequence[str]


@dataclass(frozen=True)
class Estimates:
    """What a task of numbers answered to the test split."""

    variant: str
    truth: Array
    """[rows] numbers, of a label with places [rows, places]."""
    predictions: Array
    """As `truth`: those that stand for the answers."""
    in_unit: bool = True
    """Whether these are in the label's unit, so that they can be taken from each other."""


@dataclass(frozen=True)
class Texts:
    """What is to be answered with texts: a page shows measures, and asks for none of its own."""

    variant: str
    truth: Array
    """[rows] texts."""


@dataclass(frozen=True)
class VersionFacts:
    """A version, what led to it and what it answers."""

    version: View
    """As `version_view` shows it."""
    manifest: Mapping[str, Any]
    """The version's own manifest."""
    answers: Answers | Tags | Estimates | Texts
    label: str
    """Name of the label, with its unit."""
    curve: Sequence[Mapping[str, float]] = ()
    """Measurements by epoch, in order."""
    runs: Sequence[View] = ()
    dataset: View = field(default_factory=dict)
    topic: str = ""
    release: View | None = None
    """The newest release of this version."""
    importance: Mapping[str, float] = field(default_factory=dict)
    """By how much the loss rises when a feature's values are given to other rows, the greatest first."""
    evaluations: Sequence[View] = ()
    """What versions of its pipeline scored on new rows while they were served, oldest first."""
    decisions: Sequence[View] = ()
    """Which datasets of its pipeline were trained on, oldest first."""
    held: Sequence[View] = ()
    """The segments of its pipeline that are held or were dropped, oldest first."""
