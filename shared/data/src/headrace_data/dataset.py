"""Datasets: rows written to Parquet parts as they arrive, and read back in canonical order.

The rows of a split are ordered by (producer partition, offset, index). A part holds rows of one split and one producer
partition; the manifest lists a split's parts in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import OFFSET, PARTITION, arrow_schema, elements, place_of, require_columns
from headrace_data.errors import DatasetUnusable
from headrace_data.fitting import fit
from headrace_data.identity import RowsIdentity, dataset_id
from headrace_data.manifest import Manifest, Part, Provenance, SplitParts
from headrace_data.parts import BlobStore, default_part_rows, read_groups, read_part, write_part
from headrace_data.spec import Field, Pipeline
from headrace_data.split import SPLITS, SplitName, assign_splits
from headrace_data.transforms import FittedCategory, FittedTransforms

MAX_CLASSES: Final = 10_000
"""Most distinct labels of a dataset to classify by."""
_TEXT_BYTES: Final = 100
"""What a text is taken to need as a Python object."""
_Place = tuple[int, int]
"""Where rows belong: the number of their split, and their producer partition."""


class DatasetWriter:
    """Writes one dataset. Holds at most one part per split and producer partition in memory."""

    def __init__(self, pipeline: Pipeline, store: BlobStore, part_rows: int | None = None) -> None:
        """Write parts of `part_rows` rows; by default as many as make a part of about 8 MiB in memory."""
        self._pipeline = pipeline
        self._store = store
        self._schema = arrow_schema(pipeline.stream.fields)
        self._part_rows = part_rows or default_part_rows(pipeline.stream.fields)
        self._identity = RowsIdentity(pipeline.stream)
        self._labels = _Labels(pipeline)
        self._waiting: dict[_Place, list[pa.RecordBatch]] = {}
        self._parts: dict[_Place, list[Part]] = {}

    @property
    def rows(self) -> int:
        """Rows added so far."""
        return self._identity.rows

    def add(self, batch: pa.RecordBatch) -> None:
        """Add clean rows; those of one producer partition come in the order of (offset, index).

        Raises BatchInvalid when the columns are not the stream's, DatasetInvalid when rows are out of order, and
        DatasetUnusable when the label has too many distinct values.
        """
        require_columns(batch, self._pipeline.stream.fields)
        # Rows of before a field became nullable say so in their schema; joined with others they must not.
        batch = pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)
        self._identity.add(batch)
        self._labels.add(batch)
        splits = assign_splits(batch.column(self._pipeline.split_field.name), self._pipeline.prepare.split)
        partitions = batch.column(PARTITION).to_numpy()
        for split in np.unique(splits).tolist():
            for partition in np.unique(partitions[splits == split]).tolist():
                rows = batch.filter(pa.array((splits == split) & (partitions == partition)))
                self._waiting.setdefault((split, partition), []).append(rows)
                self._write_full_parts((split, partition))

    def finish(self, provenance: Provenance, keep_alive: Callable[[], None] = lambda: None) -> Manifest:
        """Write what is left, fit the transforms on the training parts, and return the manifest.

        `keep_alive` is called for each part that is written or read: a large dataset takes minutes. Raises
        DatasetUnusable when a split has no rows, or the label has fewer than two distinct values.
        """
        for place, waiting in self._waiting.items():
            if waiting:
                self._write(place, pa.concat_batches(waiting))
                keep_alive()
        self._waiting.clear()
        splits = {name: self._split(number) for number, name in enumerate(SPLITS)}
        self._require_usable(splits)
        pipeline = self._pipeline
        training = self._training(splits["train"], keep_alive)
        return Manifest(
            dataset_id=dataset_id(self._identity, pipeline),
            pipeline=pipeline.name,
            spec_digest=pipeline.digest,
            schema_digest=pipeline.schema_digest,
            prepare_digest=pipeline.prepare_digest,
            split_digest=pipeline.split_digest,
            fields=pipeline.stream.fields,
            splits=splits,
            classes=self._labels.classes,
            transforms=fit(training, pipeline),
            provenance=provenance,
        )

    def _training(self, train: SplitParts, keep_alive: Callable[[], None]) -> Iterator[pa.RecordBatch]:
        for part in train.parts:
            yield read_part(part, self._pipeline.stream.fields, self._store)
            keep_alive()

    def _require_usable(self, splits: dict[SplitName, SplitParts]) -> None:
        for name, split in splits.items():
            if split.rows == 0:
                raise DatasetUnusable(f"expected rows in split {name}, got none among {self.rows}")
        self._labels.require_two()

    def _split(self, number: int) -> SplitParts:
        places = sorted(place for place in self._parts if place[0] == number)
        parts = [part for place in places for part in self._parts[place]]
        return SplitParts(rows=sum(part.rows for part in parts), parts=tuple(parts))

    def _write_full_parts(self, place: _Place) -> None:
        # Parts are cut at exact row counts, so that the same rows give the same parts however they arrived.
        waiting = self._waiting[place]
        if sum(map(len, waiting)) < self._part_rows:
            return
        rows = pa.concat_batches(waiting)
        full = len(rows) - len(rows) % self._part_rows
        for start in range(0, full, self._part_rows):
            self._write(place, rows.slice(start, self._part_rows))
        # Copied, so that the rest does not keep the whole alive.
        self._waiting[place] = [rows.take(pa.array(range(full, len(rows)), pa.int64()))] if full < len(rows) else []

    def _write(self, place: _Place, rows: pa.RecordBatch) -> None:
        blob = self._store.put(write_part(rows))
        offsets = rows.column(OFFSET)
        part = Part(
            uri=blob.uri,
            digest=blob.digest,
            size_bytes=blob.size_bytes,
            rows=len(rows),
            partition=place[1],
            first_offset=offsets[0].as_py(),
            last_offset=offsets[-1].as_py(),
        )
        self._parts.setdefault(place, []).append(part)


class _Labels:
    """The distinct values of the label. A regression needs two; classification needs to know all of them."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._field = pipeline.stream.label
        self._must_be_few = pipeline.task == "classification"
        self._values: set[Any] = set()

    def add(self, batch: pa.RecordBatch) -> None:
        found: list[Any] = []
        if len(self._values) <= MAX_CLASSES:
            found = [
                value for value in pc.unique(batch.column(self._field.name)).to_pylist() if value not in self._values
            ]
            self._values.update(found)
        if len(self._values) > MAX_CLASSES and self._must_be_few:
            name = self._field.name
            raise DatasetUnusable(
                f"expected at most {MAX_CLASSES} distinct values of label {name!r}, got more; the last came "
                f"{place_of(batch, name, found[-1])}. Numbers to come close to are learned with train.task: "
                "regression; other labels need fewer values, or a schema with another label under another name"
            )

    def require_two(self) -> None:
        if len(self._values) < 2:
            name, count = self._field.name, len(self._values)
            raise DatasetUnusable(f"expected at least two distinct values of label {name!r}, got {count}")

    @property
    def classes(self) -> tuple[Any, ...]:
        """The values, sorted; none when there are too many to classify by, or when they are floats."""
        countable = self._field.type not in ("float32", "float64") and len(self._values) <= MAX_CLASSES
        return tuple(sorted(self._values)) if countable else ()


class DatasetReader:
    """Reads a dataset. The store verifies each part's bytes against the manifest."""

    def __init__(self, manifest: Manifest, store: BlobStore) -> None:
        self.manifest = manifest
        self._store = store

    def batches(self, split: SplitName) -> Iterator[pa.RecordBatch]:
        """Yield a split's rows in canonical order, all columns and the lineage, one batch per part.

        Raises DatasetInvalid when a part is not what the manifest says.
        """
        for part in self.manifest.splits[split].parts:
            yield read_part(part, self.manifest.fields, self._store)

    def parts(self, split: SplitName) -> Sequence[Callable[[], Iterator[pa.RecordBatch]]]:
        """Return what reads a split's rows, part by part in canonical order: each yields one row group after another.

        They raise DatasetInvalid as `batches` does.
        """
        manifest = self.manifest
        return [partial(read_groups, part, manifest.fields, self._store) for part in manifest.splits[split].parts]

    def columns(self, split: SplitName) -> dict[str, npt.NDArray[Any]]:
        """Return a split's features, each of shape [rows, *field shape], and its label, shape [rows].

        They are what a model is called with. Numbers have the type of their field, whole numbers that may be missing
        that of float64; texts are Python strings. A missing number is NaN, a missing text is empty, as a blank one is
        that was no category of its own when the dataset was frozen. Raises
        DatasetInvalid as `batches` does.
        """
        rows = self.manifest.splits[split].rows
        fields = [*self.manifest.features, self.manifest.label]
        columns = {
            field.name: np.empty((rows, *field.shape), dtype=served_dtype(field, self.manifest.transforms))
            for field in fields
        }
        start = 0
        for batch in self.batches(split):
            for name, values in self.arrays(batch).items():
                columns[name][start : start + len(batch)] = values
            start += len(batch)
        return columns

    def arrays(self, batch: pa.RecordBatch) -> dict[str, npt.NDArray[Any]]:
        """Return the features and the label of some of the dataset's rows, as `columns` does of all rows of a split."""
        return {
            field.name: self._without_blanks(
                field, _values(batch, field, served_dtype(field, self.manifest.transforms))
            )
            for field in (*self.manifest.features, self.manifest.label)
        }

    def encoded(self, batch: pa.RecordBatch) -> dict[str, npt.NDArray[Any]]:
        """Return what `arrays` does, with the codes of categories, [rows] int64, in the place of their texts.

        Codes are made of the distinct texts alone, without a Python object for each row.
        """
        transforms = self.manifest.transforms
        encoded = {}
        for field in (*self.manifest.features, self.manifest.label):
            fitted = transforms[field.name] if field.role == "feature" else None
            encoded[field.name] = (
                fitted.codes_of(batch.column(field.name))
                if isinstance(fitted, FittedCategory)
                else _values(batch, field, served_dtype(field, transforms))
            )
        return encoded

    @property
    def row_bytes(self) -> int:
        """About how much memory a row of `columns` takes."""
        fields = (*self.manifest.features, self.manifest.label)
        dtypes = [served_dtype(field, self.manifest.transforms) for field in fields]
        return sum(
            _TEXT_BYTES if field.type == "string" else field.size * dtype.itemsize
            for field, dtype in zip(fields, dtypes, strict=True)
        )

    def _without_blanks(self, field: Field, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        fitted = self.manifest.transforms[field.name] if field.role == "feature" else None
        if isinstance(fitted, FittedCategory) and fitted.optional:
            values = np.where([fitted.is_blank(text) for text in values], "", values)
        return values


def class_indexes(labels: npt.NDArray[Any], classes: Sequence[int] | Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the position of each label in the sorted classes. Raises ValueError for a label that is none of them."""
    known = np.array(classes, dtype=object if classes and isinstance(classes[0], str) else np.int64)
    places = np.searchsorted(known, labels)
    found = places < len(known)
    found[found] = known[places[found]] == labels[found]
    if not found.all():
        raise ValueError(f"expected labels among {len(known)} classes, got {labels[~found][0]!r}")
    return places.astype(np.int64)


def served_dtype(field: Field, transforms: FittedTransforms) -> np.dtype[Any]:
    """Return the numpy type in which a feature is given to a model: objects for texts.

    Whole numbers that may be missing are float64, which has the NaN that they lack.
    """
    if field.type == "string":
        return np.dtype(object)
    optional = field.role == "feature" and transforms[field.name].optional
    return np.dtype(np.float64) if optional and field.dtype.kind != "f" else field.dtype


def _values(batch: pa.RecordBatch, field: Field, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    column = batch.column(field.name)
    if field.type == "string":
        texts: npt.NDArray[Any] = column.fill_null("").to_numpy(zero_copy_only=False)
        return texts
    values = elements(batch, field).astype(dtype, copy=bool(column.null_count))
    if column.null_count and dtype.kind == "f":
        values[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return values.reshape(len(batch), *field.shape)
