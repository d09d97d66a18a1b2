"""The manifest of a dataset: what it holds, where, and where it came from. Canonical JSON in the object store."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, TypeVar

import orjson
import pydantic

from headrace_data.canonical import canonical, sha256_digest
from headrace_data.errors import ManifestInvalid
from headrace_data.spec import Clean, Field, Split
from headrace_data.split import SPLITS, SplitName
from headrace_data.transforms import FittedTransforms

Digest = Annotated[str, pydantic.Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, pydantic.Field(ge=0)]


def is_none(value: object) -> bool:
    """Return whether a value is left out of documents."""
    return value is None


class Document(pydantic.BaseModel):
    """Base of every document and its parts: frozen, strict, unknown keys refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


_Parsed = TypeVar("_Parsed", bound=Document)


class Ref(Document):
    """Bytes in the object store."""

    uri: str
    """Where they are, as the object store understands it."""
    digest: Digest
    """Their SHA-256."""
    size_bytes: Count
    """How many they are."""


class Part(Document):
    """One Parquet file: rows of one producer partition, in the order of (offset, index).

    In datasets of before there were segments it holds the rows of one split only.
    """

    uri: str
    """Where it is, as the object store understands it."""
    digest: Digest
    """SHA-256 of its bytes."""
    size_bytes: Count
    """Its size."""
    rows: Count
    """How many rows it holds."""
    partition: int
    """The producer partition that its rows came from."""
    first_offset: int
    """Producer offset of its first row."""
    last_offset: int
    """Producer offset of its last row."""
    first_time: int | None = pydantic.Field(default=None, exclude_if=is_none)
    """Earliest event time of its rows, in microseconds since the epoch; None when one has none."""
    last_time: int | None = pydantic.Field(default=None, exclude_if=is_none)
    """Latest event time of its rows."""
    left_out: dict[str, str] = pydantic.Field(default={}, exclude_if=lambda value: not value)
    """Which of its rows a dataset leaves out, by rule: a bit for each row, the first a byte's highest, in base64.

    Of a segment's parts, rows that were erased: see erasing.py."""

    @property
    def held(self) -> int:
        """How many rows of it a dataset of before there were segments has: all that were not erased."""
        return self.rows - sum(
            int.from_bytes(base64.b64decode(bits), "big").bit_count() for bits in self.left_out.values()
        )


class SplitParts(Document):
    """The rows of one split."""

    rows: Count
    """How many there are."""
    parts: tuple[Part, ...] = pydantic.Field(default=(), exclude_if=lambda value: not value)
    """Where they are, in canonical order, in a dataset of before there were segments."""


class Bound(Document):
    """A place in the order of event time: that of a row. Rows without a time come before all others."""

    time: int
    """Event time, in microseconds since the epoch."""
    partition: int = -(2**31)
    """Producer partition."""
    offset: int = -(2**63)
    """Producer offset."""
    index: int = -(2**31)
    """Position in the producer's message."""


class Slice(Document):
    """The rows that a dataset takes of a segment."""

    segment_id: Digest
    """The segment."""
    parts: tuple[Part, ...]
    """The segment's parts, in canonical order."""
    since: Bound | None = pydantic.Field(default=None, exclude_if=is_none)
    """The first row by event time that is taken; None when all are."""
    strict: bool = pydantic.Field(default=False, exclude_if=lambda value: not value)
    """Whether the dataset's cleaning rules still have to be applied: the segment was cut under others."""


class Reading(Document):
    """How rows of segments become those of a dataset."""

    split: Split
    """The split rule."""
    split_field: str
    """The field whose value decides a row's split."""
    clean: Clean
    """The cleaning rules. Duplicates are dropped before rows come into segments."""
    squared: tuple[str, ...]
    """The float64 fields whose values are squared, and so must be smaller than others."""


class OffsetRange(Document):
    """A half-open range of offsets in one partition."""

    partition: int
    """The partition."""
    start: int
    """First offset, inclusive."""
    end: int
    """Last offset, exclusive."""


class Source(Document):
    """Where a backfill took rows from: a file, or a range of one partition of a topic."""

    name: str
    """What people call it: the file's name, or the topic's."""
    digest: Digest
    """SHA-256 of the file's bytes; of a topic, that of its id and the partition's number."""
    number: int
    """Stands for the partition of its rows: below -2**30, where no producer's partition and no pushed record is."""
    partition: int = 0
    """The partition of the topic; 0 of a file."""
    start: Count = 0
    """The first row of the file, from 0, or the first offset."""
    end: Count = 0
    """Behind the last one."""


class Provenance(Document):
    """Where the rows came from. Not part of a dataset's id."""

    cluster_id: str
    """Id of the Kafka cluster."""
    topic: str
    """The producers' topic."""
    topic_id: str
    """Id that the cluster gave the topic; empty when it is not known."""
    sources: tuple[OffsetRange, ...]
    """Ranges of the producers' topic."""
    clean_ranges: tuple[OffsetRange, ...]
    """Ranges of the clean topic."""
    rejected: dict[str, int]
    """Records of these ranges that are not in the dataset, by rule."""
    masked: dict[str, int] = pydantic.Field(default={}, exclude_if=lambda value: not value)
    """What was masked in texts of these ranges, by kind of personal data."""
    unread: dict[str, int] = pydantic.Field(default={}, exclude_if=lambda value: not value)
    """How many values are missing because a SELECT could not read what was there, by field."""
    writer_schemas: tuple[str, ...] = pydantic.Field(default=(), exclude_if=lambda value: not value)
    """Digests of the schemas that producers wrote records of these ranges with, where their format has any."""
    time_sources: Annotated[
        tuple[str, ...],
        pydantic.Field(exclude_if=lambda value: not value),  # so that manifests keep the bytes they had before
    ] = ()
    """Where event times come from: `create` (the producer) or `append` (the broker) of Kafka timestamps, `field` of the
    record, `accept` of a push. Empty where no batch says."""
    backfilled: tuple[Source, ...] = pydantic.Field(default=(), exclude_if=lambda value: not value)
    """What backfills took rows from; their ranges are no producers' ranges."""


class SegmentManifest(Document):
    """What a cut wrote: rows since the cut before it, unsplit."""

    segment_id: Digest
    """Names the content: rows, and the schema, preparation and split rule under which they were cut."""
    pipeline: str
    """Name of the pipeline."""
    schema_digest: Digest
    """Digest of the schema under which it was cut."""
    prepare_digest: Digest
    """Digest of the cleaning rules and the transforms under which it was cut."""
    split_digest: Digest
    """Digest of the split rule under which it was cut."""
    rows: Count
    """How many rows it holds."""
    parts: tuple[Part, ...]
    """Where they are, in canonical order."""
    provenance: Provenance
    """Where the rows came from."""

    def to_json(self) -> bytes:
        """Return the manifest as canonical JSON."""
        return canonical(self.model_dump(mode="json"))

    @staticmethod
    def from_json(data: bytes) -> SegmentManifest:
        """Return the manifest of canonical JSON: a segment's, or that of a dataset of before there were segments.

        Raises ManifestInvalid.
        """
        if b'"dataset_id"' in data:
            return _as_segment(Manifest.from_json(data))
        return parsed(SegmentManifest, data, "a segment's manifest")


def _as_segment(dataset: Manifest) -> SegmentManifest:
    """Return a dataset that is one segment as that. Raises ManifestInvalid for a window over others."""
    if [each.segment_id for each in dataset.slices if each.since is None] not in ([], [dataset.dataset_id]):
        raise ManifestInvalid(f"expected a segment, got dataset {dataset.dataset_id} of {len(dataset.slices)}")
    if any(each.since is not None for each in dataset.slices):
        raise ManifestInvalid(f"expected a segment, got dataset {dataset.dataset_id} of a part of one")
    return SegmentManifest(
        segment_id=dataset.dataset_id,
        **{name: getattr(dataset, name) for name in ("pipeline", "schema_digest", "prepare_digest", "split_digest")},
        rows=dataset.rows,
        parts=tuple(sorted(dataset.parts, key=lambda part: (part.partition, part.first_offset))),
        provenance=dataset.provenance,
    )


def parsed(document: type[_Parsed], data: bytes, name: str) -> _Parsed:
    """Return a document of JSON. Raises ManifestInvalid, naming each fault, whatever the bytes are."""
    try:
        return document.model_validate_json(data)
    except ManifestInvalid:
        raise
    except pydantic.ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False, include_context=False)
        faults = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors)
        raise ManifestInvalid(f"expected {name}, got another document: {faults}") from invalid
    except Exception as error:
        # Numbers beyond every range, lists where keys are looked up: JSON holds what no validator thinks of.
        reason = f"{type(error).__name__}: {error}"
        raise ManifestInvalid(f"expected {name}, got what cannot be read: {reason}") from error


def _transforms(value: object) -> FittedTransforms:
    if isinstance(value, FittedTransforms):
        return value
    if not isinstance(value, list):
        raise ManifestInvalid(f"expected a list of fitted transforms, got {orjson.dumps(value)[:40]!r}")
    return FittedTransforms.from_plain(value)


class Manifest(Document):
    """A frozen dataset."""

    dataset_id: Digest
    """Names the content: rows, schema, preparation and split rule."""
    pipeline: str
    """Name of the pipeline."""
    spec_digest: Digest
    """Digest of the pipeline's spec."""
    schema_digest: Digest
    """Digest of `fields`."""
    prepare_digest: Digest
    """Digest of the cleaning rules and the transforms."""
    split_digest: Digest
    """Digest of the split rule."""
    fields: tuple[Field, ...]
    """The schema of a row."""
    splits: dict[SplitName, SplitParts]
    """Training, validation and test rows."""
    slices: tuple[Slice, ...] = pydantic.Field(default=(), exclude_if=lambda value: not value)
    """The segments that the dataset takes rows of, oldest first; none in a dataset of before there were segments."""
    reading: Reading | None = pydantic.Field(default=None, exclude_if=is_none)
    """How rows are read from segments; there when `slices` are."""
    classes: tuple[int, ...] | tuple[str, ...]
    """The label's distinct values over all splits, sorted; none of a float label, or of more than 10,000 values."""
    transforms: Annotated[
        FittedTransforms,
        pydantic.PlainValidator(_transforms),
        pydantic.PlainSerializer(FittedTransforms.to_plain),
    ]
    """Filling, encoding and scaling of each feature, fitted on the training split."""
    provenance: Provenance
    """Where the rows came from."""

    @pydantic.model_validator(mode="after")
    def _agrees_with_itself(self) -> Manifest:
        if set(self.splits) != set(SPLITS):
            raise ValueError(f"expected the splits {', '.join(SPLITS)}, got {', '.join(sorted(self.splits))}")
        if bool(self.slices) != (self.reading is not None):
            raise ValueError("expected slices of segments and how to read them, got one without the other")
        for name, split in self.splits.items():
            if self.slices:
                continue
            held = sum(part.held for part in split.parts)
            if split.rows != held:
                raise ValueError(f"expected {split.rows} rows in the parts of split {name}, got {held}")
        if not any(field.role == "label" for field in self.fields):
            raise ValueError("expected a field with role label, got none")
        found = sha256_digest(canonical([field.plain() for field in self.fields]))
        if self.schema_digest != found:
            raise ValueError(f"expected fields whose digest is {self.schema_digest}, got some of {found}")
        return self

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.splits.values())

    @property
    def parts(self) -> tuple[Part, ...]:
        """The files that hold the rows: those of the segments, or of one split after another."""
        held = [each.parts for each in self.slices] or [self.splits[name].parts for name in SPLITS]
        return tuple(part for parts in held for part in parts)

    def reaching(self, wanted: Callable[[Part], bool]) -> Manifest:
        """Return a manifest of these files alone, for a reader that looks for some rows; its counts are not theirs."""
        splits = {
            name: split.model_copy(update={"parts": tuple(filter(wanted, split.parts))})
            for name, split in self.splits.items()
        }
        slices = tuple(each.model_copy(update={"parts": tuple(filter(wanted, each.parts))}) for each in self.slices)
        return self.model_copy(update={"splits": splits, "slices": slices})

    @property
    def features(self) -> tuple[Field, ...]:
        """The fields that a model learns from."""
        return tuple(field for field in self.fields if field.role == "feature")

    @property
    def label(self) -> Field:
        """The field that a model learns to predict."""
        return next(field for field in self.fields if field.role == "label")

    @property
    def group(self) -> Field | None:
        """The field with role group, when there is one."""
        return next((field for field in self.fields if field.role == "group"), None)

    def to_json(self) -> bytes:
        """Return the manifest as canonical JSON."""
        plain = self.model_dump(mode="json", exclude={"fields"})
        return canonical({**plain, "fields": [field.plain() for field in self.fields]})

    @staticmethod
    def from_json(data: bytes) -> Manifest:
        """Return the manifest of canonical JSON. Raises ManifestInvalid, naming each fault, whatever the bytes are."""
        manifest = parsed(Manifest, data, "a dataset's manifest")
        fitted = {feature.name for feature in manifest.transforms.features}
        if missing := sorted({field.name for field in manifest.features} - fitted):
            raise ManifestInvalid(f"expected a fitted transform of each feature, got none of {', '.join(missing)}")
        return manifest
