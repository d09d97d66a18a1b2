"""Datasets: rows read back in canonical order, split by split.

The rows of a split are ordered by segment, then by (producer partition, offset, index).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import LINEAGE, elements
from headrace_data.errors import DatasetInvalid
from headrace_data.folds import FOLD, folds_of
from headrace_data.manifest import Manifest, Part, Reading
from headrace_data.parts import BlobStore, read_groups, read_part
from headrace_data.slices import as_taken, is_taken, left_out, rows_of, splits_of
from headrace_data.spec import Field
from headrace_data.split import SPLITS, SplitName, digests
from headrace_data.transforms import FittedText, FittedTransforms

_TEXT_BYTES: Final = 100
"""What a text is taken to need as a Python object."""
_GROUPED_BYTES: Final = 16
"""What a label takes beside the number of its group."""
Columns = dict[str, npt.NDArray[Any]]
"""Arrays by the name of a feature or of the label, which is [rows, 2] of a reader that is told of groups."""


class DatasetReader:
    """Reads a dataset. The store verifies each part's bytes against the manifest."""

    def __init__(
        self, manifest: Manifest, store: BlobStore, beside: Sequence[Field] = (), *, grouped: bool = False
    ) -> None:
        """`beside` are fields that are read beside features and label, as texts: a missing one is empty.

        With `grouped` a label is two float64: its value, and a number that the rows of its group have in common.
        Raises DatasetInvalid where no field is a group.
        """
        self.manifest = manifest
        self.grouped = grouped
        self._beside = [field for field in beside if field not in (*manifest.features, manifest.label)]
        if grouped and manifest.group is None:
            raise DatasetInvalid(f"dataset {manifest.dataset_id}: expected a field with role group, got none")
        self._store = store
        self._known: dict[tuple[int, int], list[npt.NDArray[np.uint8]]] = {}
        """Which rows are in which split, by slice and part: for each row group a bit for each split and row."""

    def batches(self, split: SplitName) -> Iterator[pa.RecordBatch]:
        """Yield a split's rows in canonical order, all columns and the lineage, one batch per part.

        Raises DatasetInvalid when a part is not what the manifest says.
        """
        for _, rows in self.rows([split]):
            yield rows

    def parts(self, split: SplitName) -> Sequence[Callable[[], Iterator[pa.RecordBatch]]]:
        """Return what reads a split's features and label, part by part in canonical order.

        Each yields one row group after another, empty ones too, and raises DatasetInvalid as `batches` does. Which rows
        of a part are in which split is found once, and kept, three bits for each row: later only what is learned from
        is decoded.
        """
        manifest, read = self.manifest, self._read
        if manifest.reading is None:
            parts = manifest.splits[split].parts
            lineage = self._needs_folds(split)
            return [partial(self._groups_of_before, part, read, lineage=lineage) for part in parts]
        return [
            partial(self._groups, (number, place), SPLITS.index(split), manifest.reading)
            for number, taken in enumerate(manifest.slices)
            for place in range(len(taken.parts))
        ]

    def _groups_of_before(self, part: Part, read: Sequence[Field], *, lineage: bool) -> Iterator[pa.RecordBatch]:
        stay, start = ~left_out(part), 0
        for rows in read_groups(part, read, self._store, lineage=lineage):
            start += len(rows)
            yield rows.filter(pa.array(stay[start - len(rows) : start])) if part.left_out else rows

    def _groups(self, place: tuple[int, int], split: int, reading: Reading) -> Iterator[pa.RecordBatch]:
        taken, read = self.manifest.slices[place[0]], self._read
        part = taken.parts[place[1]]
        if (known := self._known.get(place)) is not None:
            held = any(bits[split].any() for bits in known)
            lineage = self._needs_folds(SPLITS[split])
            groups = read_groups(part, read, self._store, lineage=lineage) if held else ()
            for rows, bits in zip(groups, known, strict=False):
                wanted = np.unpackbits(bits[split], count=len(rows)).view(np.bool_)
                yield as_taken(rows.filter(pa.array(wanted)), taken, reading)
            return
        found, start, out = [], 0, left_out(part)
        for rows in read_groups(part, self.manifest.fields, self._store):
            kept = is_taken(rows, taken, self.manifest.fields, reading) & ~out[start : start + len(rows)]
            start, sides = start + len(rows), splits_of(rows, reading)
            in_splits = np.array([kept & (sides == number) for number in range(len(SPLITS))])
            found.append(np.packbits(in_splits, axis=1))
            names = [field.name for field in read]
            names += LINEAGE if self._needs_folds(SPLITS[split]) else []
            yield as_taken(rows.filter(pa.array(in_splits[split])).select(names), taken, reading)
        self._known[place] = found

    @property
    def _learned(self) -> list[Field]:
        """The features, the label, and what is read beside them."""
        return [*self.manifest.features, self.manifest.label, *self._beside]

    @property
    def _read(self) -> list[Field]:
        """The same, and the group where it is asked for."""
        learned, group = self._learned, self.manifest.group
        return [*learned, group] if self.grouped and group is not None and group not in learned else learned

    def columns(self, split: SplitName) -> Columns:
        """Return a split's features, each of shape [rows, *field shape], and its label, shape [rows].

        Of the training split the rows' folds are in the column `FOLD`, where a transform asks for them.

        They are what a model is called with. Numbers have the type of their field, whole numbers that may be missing
        that of float64; texts are Python strings. A missing number is NaN, a missing text is empty, as a blank one is
        that was no category of its own when the dataset was frozen. Raises
        DatasetInvalid as `batches` does.
        """
        return self.columns_of([split])[split]

    def columns_of(self, splits: Sequence[SplitName] = SPLITS) -> dict[SplitName, Columns]:
        """Return what `columns` does of several splits, having read the rows once."""
        columns = {split: self._empty(self.manifest.splits[split].rows) for split in splits}
        for split in filter(self._needs_folds, splits):
            columns[split][FOLD] = np.empty(self.manifest.splits[split].rows, np.int64)
        starts = dict.fromkeys(splits, 0)
        for split, batch in self.rows(splits):
            start, end = starts[split], starts[split] + len(batch)
            starts[split] = end
            if end <= self.manifest.splits[split].rows:
                folds = {FOLD: folds_of(batch)} if self._needs_folds(split) else {}
                for name, values in (self.arrays(batch) | folds).items():
                    columns[split][name][start:end] = values
        for split, count in starts.items():
            if count != self.manifest.splits[split].rows:
                expected = self.manifest.splits[split].rows
                raise DatasetInvalid(f"expected {expected} rows in split {split}, got {count}")
        return columns

    def head(self, most: int) -> dict[SplitName, Columns]:
        """Return what `columns_of` does of all splits, but of the first files only that hold `most` rows of each."""
        found: dict[SplitName, list[Columns]] = {split: [self._empty(0)] for split in SPLITS}
        counts = dict.fromkeys(SPLITS, 0)
        for split, batch in self.rows():
            if counts[split] < most:
                found[split].append(self.arrays(batch))
                counts[split] += len(batch)
            elif min(counts.values()) >= most:
                break
        return {
            split: {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}
            for split, columns in found.items()
        }

    def arrays(self, batch: pa.RecordBatch) -> Columns:
        """Return the features and the label of some of the dataset's rows, as `columns` does of all rows of a split."""
        values = {
            field.name: self._without_blanks(
                field, served_values(batch, field, served_dtype(field, self.manifest.transforms))
            )
            for field in self._learned
        }
        return self._in_groups(values, batch)

    def encoded(self, batch: pa.RecordBatch) -> Columns:
        """Return what `arrays` does, with the codes of categories, [rows] int64, in the place of their texts.

        Codes are made of the distinct texts alone, without a Python object for each row. Of rows that came with their
        lineage the folds are there too, where a transform asks for them.
        """
        transforms = self.manifest.transforms
        encoded: Columns = {}
        if transforms.needs_folds and LINEAGE[0] in batch.schema.names:
            encoded[FOLD] = folds_of(batch)
        for field in self._learned:
            fitted = transforms[field.name] if field.role == "feature" else None
            encoded[field.name] = (
                fitted.codes_of(batch.column(field.name))
                if isinstance(fitted, FittedText)
                else served_values(batch, field, served_dtype(field, transforms))
            )
        return self._in_groups(encoded, batch)

    def _in_groups(self, columns: Columns, batch: pa.RecordBatch) -> Columns:
        """Put the numbers of the rows' groups beside their labels, where they are asked for.

        They are 52 bits of a digest of the group's text, which float64 holds: equal in every part and every dataset.
        """
        if self.grouped and (group := self.manifest.group) is not None:
            label = self.manifest.label.name
            numbers = digests(batch.column(group.name), "group") >> np.uint64(12)
            columns[label] = np.stack([columns[label], numbers], axis=1).astype(np.float64)
        return columns

    def _needs_folds(self, split: SplitName) -> bool:
        return split == "train" and self.manifest.transforms.needs_folds

    @property
    def row_bytes(self) -> int:
        """About how much memory a row of `columns` takes."""
        fields = self._learned
        dtypes = [served_dtype(field, self.manifest.transforms) for field in fields]
        return (_GROUPED_BYTES if self.grouped else 0) + sum(
            _TEXT_BYTES if field.type == "string" else field.size * dtype.itemsize
            for field, dtype in zip(fields, dtypes, strict=True)
        )

    def rows(self, splits: Sequence[SplitName] = SPLITS) -> Iterator[tuple[SplitName, pa.RecordBatch]]:
        """Yield the rows of some splits, each split's in canonical order."""
        manifest = self.manifest
        if manifest.reading is None:
            for split in splits:
                for part in manifest.splits[split].parts:
                    rows = read_part(part, manifest.fields, self._store)
                    yield split, rows.filter(pa.array(~left_out(part))) if part.left_out else rows
            return
        for taken in manifest.slices:
            for rows in rows_of(taken, manifest.fields, manifest.reading, self._store):
                sides = splits_of(rows, manifest.reading)
                for split in splits:
                    yield split, rows.filter(pa.array(sides == SPLITS.index(split)))

    def _empty(self, rows: int) -> Columns:
        transforms, fields = self.manifest.transforms, self._learned
        empty: Columns = {
            field.name: np.empty((rows, *field.shape), served_dtype(field, transforms)) for field in fields
        }
        return empty | ({self.manifest.label.name: np.empty((rows, 2))} if self.grouped else {})

    def _without_blanks(self, field: Field, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        fitted = self.manifest.transforms[field.name] if field.role == "feature" else None
        if isinstance(fitted, FittedText) and fitted.optional:
            values = np.where([fitted.is_blank(text) for text in values], "", values)
        return values


def class_indexes(labels: npt.NDArray[Any], classes: Sequence[int | str]) -> npt.NDArray[np.int64]:
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

    Whole numbers that may be missing are float64, which has the NaN that they lack. What is neither feature nor label
    is read as a text.
    """
    if field.type == "string" or field.role not in ("feature", "label"):
        return np.dtype(object)
    optional = field.role == "feature" and transforms[field.name].optional
    return np.dtype(np.float64) if optional and field.dtype.kind != "f" else field.dtype


def served_values(batch: pa.RecordBatch, field: Field, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a field as a model takes it, shape [rows, *field.shape]; a missing value is NaN, or an empty text."""
    column = batch.column(field.name)
    if dtype.kind == "O":
        texts: npt.NDArray[Any] = column.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)
        return texts
    values = elements(batch, field).astype(dtype, copy=bool(column.null_count))
    if column.null_count and dtype.kind == "f":
        values[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return values.reshape(len(batch), *field.shape)
