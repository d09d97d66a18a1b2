"""Sketches: what is known of rows without reading them again, for each side of the split.

The sketches of two sets of rows merge into that of both, so a window is fitted from its segments' sketches. Counts,
means, deviations, extremes, categories and labels are exact, but for rounding; what needs the order of values is kept
in samples, see sampling.py. Moments are taken in float64 over chunks of fixed size in the order of the producers'
partitions, and merged as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances" (1979); they do not depend on how rows were batched or stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import blank, elements, lineage, place_of
from headrace_data.folds import folds_of
from headrace_data.label_sums import LabelSums
from headrace_data.sampling import Ranks, RowSample, capacity_of, ranks_of
from headrace_data.spec import Field, Pipeline, Transform
from headrace_data.spec.transform import Target
from headrace_data.split import SPLITS, SplitName
from headrace_data.spread import Spread
from headrace_data.tasks import TASKS

Floats = npt.NDArray[np.float64]
MAX_CATEGORIES: Final = 1000
"""Most categories of one feature: each is a column of the model's input."""
MAX_FOUND: Final = 100_000
"""Most categories of a feature of which the rare ones are put together."""
MAX_CLASSES: Final = 10_000
"""Most distinct labels of a dataset to classify by."""


@dataclass
class Moments:
    """Count, mean, squared deviations and extremes of one feature's elements."""

    count: int
    means: Floats
    squares: Floats
    low: Floats
    high: Floats

    @staticmethod
    def none(size: int) -> Moments:
        """Return the moments of no rows of `size` elements."""
        return Moments(0, np.zeros(size), np.zeros(size), np.full(size, np.inf), np.full(size, -np.inf))

    @staticmethod
    def of(chunk: Floats) -> Moments:
        """Return the moments of rows, shape [rows, elements]; at least one."""
        with np.errstate(over="ignore", invalid="ignore"):
            means = chunk.mean(axis=0)
            squares = np.square(chunk - means).sum(axis=0)
        return Moments(len(chunk), means, squares, chunk.min(axis=0), chunk.max(axis=0))

    def merge(self, other: Moments) -> None:
        """Take in the moments of other rows."""
        if not other.count:
            return
        total = self.count + other.count
        with np.errstate(over="ignore", invalid="ignore"):
            delta = other.means - self.means
            self.squares = self.squares + other.squares + np.square(delta) * (self.count * other.count / total)
            self.means = self.means + delta * (other.count / total)
        self.count = total
        self.low = np.minimum(self.low, other.low)
        self.high = np.maximum(self.high, other.high)

    @property
    def mean(self) -> Floats:
        """The mean of each element."""
        # Rounding may move the mean of equal values a little: the extremes know better.
        return np.where(self.low == self.high, self.low, self.means)

    @property
    def deviation(self) -> Floats:
        """The population's standard deviation of each element; at least one row must have come."""
        return np.where(self.low == self.high, 0.0, np.sqrt(self.squares / self.count))


class NumberSketch:
    """What is known of a number feature. Missing values have no part in it."""

    def __init__(self, field: Field, capacity: int) -> None:
        """Keep a sample of `capacity` rows, or none."""
        self.field = field
        self.sample = RowSample(capacity) if capacity else None
        self._whole = Moments.none(field.size)
        self._parts: dict[int, Moments] = {}
        """Moments by producers' partition, which come in any order."""

    def add(self, batch: pa.RecordBatch, partition: int, ranks: Ranks | None) -> None:
        """Take in rows of one producers' partition, with their ranks where a sample is kept."""
        values = elements(batch, self.field)
        column = batch.column(self.field.name)
        if column.null_count:
            present = column.is_valid().to_numpy(zero_copy_only=False)
            values, ranks = values[present], ranks[present] if ranks is not None else None
        if not len(values):
            return
        self._parts.setdefault(partition, Moments.none(self.field.size)).merge(Moments.of(values.astype(np.float64)))
        if self.sample is not None and ranks is not None:
            self.sample.add(values, ranks)

    def merge(self, other: NumberSketch) -> None:
        """Take in what is known of other rows."""
        self._whole, self._parts = self.moments(), {}
        self._whole.merge(other.moments())
        if self.sample is not None and other.sample is not None:
            self.sample.merge(other.sample)

    def moments(self) -> Moments:
        """Return the moments of all rows."""
        whole = Moments.none(self.field.size)
        for each in (self._whole, *(self._parts[partition] for partition in sorted(self._parts))):
            whole.merge(each)
        return whole

    def settle(self, moments: Moments) -> None:
        """Begin with these moments."""
        self._whole = moments


@dataclass
class Values:
    """The distinct values of a column and how often each occurs, up to a number of them."""

    name: str
    most: int
    counts: Counter[Any] = field(default_factory=Counter)
    missing: int = 0
    """Rows with a null or a blank text."""
    beyond: str = ""
    """Where the first value came from that there was no room for, in words; empty while all are known."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows. Once there are too many values, nobody asks for their counts, only for what is missing."""
        if self.beyond:
            self.missing += _absent(batch.column(self.name))
            return
        for found in pc.value_counts(batch.column(self.name)).to_pylist():
            value, count = found["values"], found["counts"]
            if value is None or (isinstance(value, str) and (not value or value.isspace())):
                self.missing += count
            elif value in self.counts or len(self.counts) < self.most:
                self.counts[value] += count
            elif not self.beyond:
                self.beyond = place_of(batch, self.name, value)

    def merge(self, other: Values) -> None:
        """Take in what is known of other rows."""
        self.missing += other.missing
        self.beyond = self.beyond or other.beyond
        for value, count in other.counts.items():
            if value in self.counts or len(self.counts) < self.most:
                self.counts[value] += count
            else:
                self.beyond = self.beyond or f"with the rows of another segment: {value!r}"


@dataclass
class Side:
    """What is known of the rows of one split."""

    rows: int
    numbers: dict[str, NumberSketch]
    """By field: each number feature, and a label that is looked at for outliers."""
    texts: dict[str, Values]
    """By feature."""
    sums: dict[str, LabelSums]
    """By text feature that becomes what its rows have for a label."""
    labels: Values | None
    """The classes; None where labels are no classes, or of rows that were sketched before these were counted."""

    def add(self, batch: pa.RecordBatch, partition: int) -> None:
        """Take in rows of one producers' partition."""
        self.rows += len(batch)
        ranks = ranks_of(*lineage(batch)) if any(number.sample for number in self.numbers.values()) else None
        for number in self.numbers.values():
            number.add(batch, partition, ranks)
        for values in self.texts.values():
            values.add(batch)
        folds = folds_of(batch) if self.sums else np.empty(0, np.int64)
        for sums in self.sums.values():
            sums.add(batch, partition, folds)
        if self.labels is not None:
            self.labels.add(batch)

    def merge(self, other: Side) -> None:
        """Take in what is known of other rows."""
        self.rows += other.rows
        for name, number in self.numbers.items():
            number.merge(other.numbers[name])
        for name, values in self.texts.items():
            values.merge(other.texts[name])
        for name, sums in self.sums.items():
            sums.merge(other.sums[name])
        if self.labels is not None and other.labels is not None:
            self.labels.merge(other.labels)
        else:
            self.labels = None


class Sketch:
    """What is known of the rows of a pipeline, by split, and of their labels over all splits."""

    def __init__(self, pipeline: Pipeline) -> None:
        label = pipeline.stream.label
        # Of texts that are answers it is enough that they are not all the same: they may be long.
        self.labels = Values(label.name, 2 if TASKS[pipeline.task].answers_texts else MAX_CLASSES)
        self.places = NumberSketch(label, 0) if label.shape else None
        """In the place of `labels` where a label has a shape: the moments of each of its places."""
        self.sides = {name: _side(pipeline, name) for name in SPLITS}
        self.spread: Spread | None = Spread(pipeline)
        """How the numbers are spread; None where some rows were sketched before this was kept."""

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(side.rows for side in self.sides.values())

    @property
    def has_samples(self) -> bool:
        """Whether values are kept that the order of values is taken from."""
        return bool(self._samples)

    @property
    def is_sampled(self) -> bool:
        """Whether some of these values were not kept."""
        return any(sample.is_sampled for sample in self._samples)

    @property
    def _samples(self) -> Sequence[RowSample]:
        numbers = (number for side in self.sides.values() for number in side.numbers.values())
        return [number.sample for number in numbers if number.sample is not None]

    def add(self, batch: pa.RecordBatch, partition: int, splits: npt.NDArray[np.int8]) -> None:
        """Take in rows of one producers' partition, in their order, with the number of each one's split.

        The moments depend in their last bits on how rows are divided into calls.
        """
        if self.places is None:
            self.labels.add(batch)
        else:
            self.places.add(batch, partition, None)
        if self.spread is not None:
            self.spread.add(batch)
        for number, name in enumerate(SPLITS):
            if (mine := splits == number).any():
                self.sides[name].add(batch if mine.all() else batch.filter(pa.array(mine)), partition)

    def merge(self, other: Sketch) -> None:
        """Take in what is known of other rows of the same pipeline."""
        self.labels.merge(other.labels)
        if self.places is not None and other.places is not None:
            self.places.merge(other.places)
        if self.spread is not None and other.spread is not None:
            self.spread.merge(other.spread)
        else:
            self.spread = None
        for name, side in self.sides.items():
            side.merge(other.sides[name])


def _absent(column: pa.Array) -> int:
    blanks = pc.sum(blank(column)).as_py() if pa.types.is_string(column.type) else 0
    return int(column.null_count) + int(blanks or 0)


def needs_order(transform: Transform) -> bool:
    """Return whether a transform is fitted from the order of values."""
    return transform.needs_order or transform.impute in ("median", "mostFrequent")


def _most_categories(transform: Transform) -> int:
    if transform.kind_of("string") == "text":
        return 0  # nothing is learned from which texts there are, and they may be long
    return MAX_FOUND if transform.limits_categories or transform.kind_of("string") == "target" else MAX_CATEGORIES


def sample_capacity(pipeline: Pipeline) -> int:
    """Return how many rows are kept of each field of which a pipeline needs the order of its values."""
    return capacity_of(sum(field.size for field in _ordered(pipeline)))


def _numbers(pipeline: Pipeline) -> Sequence[Field]:
    """Return the fields of which numbers are known: features, and a label of which some are told to be far."""
    named = pipeline.outlier_fields
    return [
        each for each in pipeline.stream.fields if each in named or (each.role == "feature" and each.type != "string")
    ]


def _ordered(pipeline: Pipeline) -> Sequence[Field]:
    named = pipeline.outlier_fields
    return [each for each in _numbers(pipeline) if each in named or needs_order(pipeline.transform(each.name))]


def _side(pipeline: Pipeline, name: SplitName) -> Side:
    # Transforms are fitted on the training split, and what is far is told by it: of the others no order is needed.
    ordered = {each.name for each in _ordered(pipeline)} if name == "train" else set()
    capacity = sample_capacity(pipeline)
    features, label = pipeline.stream.features, pipeline.stream.label
    return Side(
        rows=0,
        numbers={each.name: NumberSketch(each, capacity if each.name in ordered else 0) for each in _numbers(pipeline)},
        texts={
            each.name: Values(each.name, _most_categories(pipeline.transform(each.name)))
            for each in features
            if each.type == "string"
        },
        sums=_sums(pipeline) if name == "train" else {},
        labels=Values(label.name, MAX_CLASSES) if TASKS[pipeline.task].counts_labels else None,
    )


def _sums(pipeline: Pipeline) -> dict[str, LabelSums]:
    label, features = pipeline.stream.label, [each for each in pipeline.stream.features if each.type == "string"]
    chosen = {each.name: pipeline.transform(each.name) for each in features}
    return {
        name: LabelSums(name, label.name, MAX_FOUND, classes=transform.told(Target).counts_classes(label.type))
        for name, transform in chosen.items()
        if transform.kind_of("string") == "target"
    }
