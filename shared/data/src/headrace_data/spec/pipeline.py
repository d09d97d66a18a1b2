"""The pipeline: all sections together, its names and its digests.

The pydantic models are the one source of the document's keys, types, defaults and descriptions. Rules that concern more
than one key are in rules.py. Build a `Pipeline` with `load_pipeline` or `parse_canonical`, which apply both.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import pydantic

from headrace_data.canonical import canonical, sha256_digest
from headrace_data.spec.cleaning import NO_NUMBERS
from headrace_data.spec.learn import Compress, Train
from headrace_data.spec.networks import EncoderNetwork
from headrace_data.spec.prepare import Prepare
from headrace_data.spec.retain import Retain
from headrace_data.spec.scalars import DnsLabel
from headrace_data.spec.section import Section
from headrace_data.spec.serve import Serve
from headrace_data.spec.stream import Field, Stream
from headrace_data.spec.transform import Transform
from headrace_data.tasks import PredictionType, TaskKind


def own_name(name: str, incarnation: int) -> str:
    """Return the name that one pipeline alone ever has; no DNS label has a dot.

    `incarnation` counts the pipelines of the name that were deleted before. The first keeps the bare name.
    """
    return f"{name}.{incarnation}" if incarnation else name


def default_task(label: Field) -> TaskKind:
    """Return the task of a label where a document says none."""
    if label.shape:
        return "multilabel" if label.type == "bool" else "regression"
    return "regression" if label.type in ("float32", "float64") else "classification"


class Metadata(Section):
    """Who the pipeline is."""

    name: DnsLabel = pydantic.Field(description="Name of the pipeline: a DNS label, because it becomes topic names.")


class Pipeline(Section):
    """One pipeline, from topic to endpoint."""

    api_version: Literal["headrace/v1"] = pydantic.Field(description="Version of this format.")
    kind: Literal["Pipeline"] = pydantic.Field(description="What the document declares.")
    metadata: Metadata = pydantic.Field(description="Who the pipeline is.")
    stream: Stream = pydantic.Field(description="Where records come from and what they look like.")
    prepare: Prepare = pydantic.Field(default_factory=Prepare, description="From records to datasets.")
    train: Train = pydantic.Field(description="From a dataset to a version.")
    compress: Compress = pydantic.Field(default_factory=Compress, description="Smaller variants of a version.")
    serve: Serve = pydantic.Field(default_factory=Serve, description="How predictions are answered.")
    retain: Retain | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # so that specs keep the digests they had before it could be said
        description="What is kept of the past; the rest goes with `headrace gc`. Left out: everything.",
    )

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self.metadata.name

    _incarnation: int = pydantic.PrivateAttr(default=0)

    @property
    def incarnation(self) -> int:
        """How many pipelines of the name were deleted before this one; no part of the document."""
        return self._incarnation

    @property
    def own_name(self) -> str:
        """The name that this pipeline alone ever has: of its topics, consumer groups and transactional ids."""
        return own_name(self.name, self._incarnation)

    def incarnated(self, incarnation: int) -> Pipeline:
        """Return the same pipeline as the one that follows so many deleted ones of its name."""
        other = self.model_copy()
        other._incarnation = incarnation  # noqa: SLF001 - of this class
        return other

    @property
    def model(self) -> str:
        """Name of the model that clients call."""
        return self.train.model or self.metadata.name

    @property
    def scored(self) -> str | None:
        """The topic whose records are answered on the topic of answers; None where none are."""
        scoring = self.serve.scoring
        return None if scoring is None else scoring.topic or self.stream.topic

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of producers that the pipeline reads, each once; that of its records is the first."""
        return tuple(dict.fromkeys((*self.stream.topics, *([self.scored] if self.scored else ()))))

    @property
    def task(self) -> TaskKind:
        """What the model answers: `train.task`, or what suits the label's type."""
        if self.train.task is not None:
            return self.train.task
        return default_task(self.stream.label)

    @property
    def answers_embeddings(self) -> bool:
        """Whether versions answer the embeddings of texts beside their task."""
        return isinstance(self.train.network, EncoderNetwork) and self.train.network.embedding

    @property
    def positive(self) -> int | str | None:
        """The label's value that is looked for, as datasets have it: a boolean is 1 or 0."""
        value = self.train.positive
        return int(value) if isinstance(value, bool) else value

    @property
    def prediction_type(self) -> PredictionType:
        """The type of answers that are numbers: `train.prediction_type`, and float32 where nothing is said."""
        return self.train.prediction_type or "float32"

    @property
    def drops_over_stream(self) -> bool:
        """Whether duplicates are dropped over all partitions, when a dataset is cut."""
        rules = self.prepare.clean
        drops = rules.duplicates == "drop" and self.stream.key_field is not None
        return drops and rules.duplicate_scope == "stream"

    @cached_property
    def outlier_fields(self) -> tuple[Field, ...]:
        """The fields whose values may be outliers: those that are named, or each feature that is one number."""
        rules = self.prepare.clean.outliers
        if rules is None:
            return ()
        if rules.fields is not None:
            return tuple(field for field in self.stream.fields if field.name in rules.fields)
        return tuple(field for field in self.stream.features if field.type not in NO_NUMBERS and not field.shape)

    def transform(self, name: str) -> Transform:
        """Return the transform of a feature; one that does nothing when none is named."""
        return self.prepare.transform.get(name, Transform())

    def optional(self, name: str) -> bool:
        """Return whether callers may leave a feature out: its transform says what stands for a missing value."""
        return self.transform(name).impute is not None

    @cached_property
    def split_field(self) -> Field:
        """The field whose value decides a row's split."""
        field = self.stream.group or self.stream.id
        if self.prepare.split.group is not None:
            field = self.stream.field(self.prepare.split.group)
        if field is None:
            raise ValueError(f"pipeline {self.name!r}: expected a field to split by, got no group, id or split.group")
        return field

    def canonical_json(self) -> bytes:
        """Return the spec with every default filled in, as canonical JSON."""
        return canonical(self.plain())

    @cached_property
    def digest(self) -> str:
        """Digest of the canonical JSON."""
        return sha256_digest(self.canonical_json())

    @cached_property
    def schema_digest(self) -> str:
        """Digest of what a row is: the fields in order."""
        return sha256_digest(canonical([field.plain() for field in self.stream.fields]))

    @cached_property
    def prepare_digest(self) -> str:
        """Digest of how rows are chosen and transformed: key, cleaning and transforms."""
        key = self.stream.key_field
        prepare = {name: transform.plain() for name, transform in self.prepare.transform.items()}
        clean = self.prepare.clean.plain()
        return sha256_digest(canonical({"key": key and key.name, "clean": clean, "transform": prepare}))

    @property
    def preparation(self) -> tuple[str, ...]:
        """What makes a dataset of records: pipelines with the same one make the same dataset of the same records."""
        time, digests = self.stream.time or "", (self.schema_digest, self.prepare_digest, self.split_digest)
        personal = [sha256_digest(canonical(self.stream.personal.plain()))] if self.stream.personal else []
        select = [self.stream.select] if self.stream.select else []
        labels = [sha256_digest(canonical(self.stream.labels.plain()))] if self.stream.labels else []
        return (self.stream.topic, time, *digests, self.window_digest, *personal, *select, *labels)

    @cached_property
    def window_digest(self) -> str:
        """Digest of which rows of the stream a dataset takes."""
        return sha256_digest(canonical(self.prepare.plain().get("window", "new")))

    @cached_property
    def split_digest(self) -> str:
        """Digest of the split rule, with the field it hashes."""
        return sha256_digest(canonical({**self.prepare.split.plain(), "group": self.split_field.name}))
