"""The manifest of a dataset: what it holds, where, and where it came from. Canonical JSON in the object store."""

from __future__ import annotations

from typing import Annotated

import orjson
import pydantic

from headrace_data.canonical import canonical, sha256_digest
from headrace_data.errors import ManifestInvalid
from headrace_data.spec import Field
from headrace_data.split import SPLITS, SplitName
from headrace_data.transforms import FittedTransforms

Digest = Annotated[str, pydantic.Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, pydantic.Field(ge=0)]


class _Document(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Part(_Document):
    """One Parquet file: rows of one split and one producer partition, in the order of (offset, index)."""

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


class SplitParts(_Document):
    """The rows of one split."""

    rows: Count
    """How many there are."""
    parts: tuple[Part, ...]
    """Where they are, in canonical order."""


class OffsetRange(_Document):
    """A half-open range of offsets in one partition."""

    partition: int
    """The partition."""
    start: int
    """First offset, inclusive."""
    end: int
    """Last offset, exclusive."""


class Provenance(_Document):
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


def _transforms(value: object) -> FittedTransforms:
    if isinstance(value, FittedTransforms):
        return value
    if not isinstance(value, list):
        raise ManifestInvalid(f"expected a list of fitted transforms, got {orjson.dumps(value)[:40]!r}")
    return FittedTransforms.from_plain(value)


class Manifest(_Document):
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
        for name, split in self.splits.items():
            held = sum(part.rows for part in split.parts)
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
    def features(self) -> tuple[Field, ...]:
        """The fields that a model learns from."""
        return tuple(field for field in self.fields if field.role == "feature")

    @property
    def label(self) -> Field:
        """The field that a model learns to predict."""
        return next(field for field in self.fields if field.role == "label")

    def to_json(self) -> bytes:
        """Return the manifest as canonical JSON."""
        plain = self.model_dump(mode="json", exclude={"fields"})
        return canonical({**plain, "fields": [field.plain() for field in self.fields]})

    @staticmethod
    def from_json(data: bytes) -> Manifest:
        """Return the manifest of canonical JSON. Raises ManifestInvalid, naming each fault, whatever the bytes are."""
        try:
            manifest = Manifest.model_validate_json(data)
        except ManifestInvalid:
            raise
        except pydantic.ValidationError as invalid:
            errors = invalid.errors(include_url=False, include_input=False, include_context=False)
            faults = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors)
            raise ManifestInvalid(f"expected a dataset's manifest, got another document: {faults}") from invalid
        except Exception as error:
            # Numbers beyond every range, lists where keys are looked up: JSON holds what no validator thinks of.
            reason = f"{type(error).__name__}: {error}"
            raise ManifestInvalid(f"expected a dataset's manifest, got what cannot be read: {reason}") from error
        fitted = {feature.name for feature in manifest.transforms.features}
        if missing := sorted({field.name for field in manifest.features} - fitted):
            raise ManifestInvalid(f"expected a fitted transform of each feature, got none of {', '.join(missing)}")
        return manifest
