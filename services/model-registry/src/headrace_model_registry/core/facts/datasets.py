"""Datasets: asked for, frozen or failed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace_model_registry.core.facts.backfill import Artifact, Backfill, Backfilled
from headrace_model_registry.core.facts.forgotten import Forget
from headrace_model_registry.core.facts.hold import HeldSegment, Hold
from headrace_model_registry.core.facts.ranges import SourceRange
from headrace_model_registry.core.facts.remarks import ClassRows, Leaks, Outliers


@dataclass(frozen=True, slots=True)
class DatasetRequested:
    """A dataset of everything clean is wanted now; with an order, one of the history that it is carried out in.

    To `forget` a key wants none.
    """

    pipeline: str
    request_id: str
    incarnation: int = 0
    backfill: Backfill | None = None
    hold: Hold | None = None
    forget: Forget | None = None


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Rows by split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True, slots=True)
class SegmentReference:
    """A segment and where it is; `sketch` is None where nobody made one."""

    segment_id: str
    manifest: Artifact
    sketch: Artifact | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class DatasetFrozen:
    """An immutable dataset. `request_id` is empty when no request led to it, `segment` None when no cut did."""

    pipeline: str
    dataset_id: str
    spec_digest: str
    manifest: Artifact
    rows: SplitRows
    sources: tuple[SourceRange, ...] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    request_id: str = ""
    incarnation: int = 0
    repeated_keys: int = 0
    late_rows: int = 0
    segments: int = 0
    segment_rows: int = 0
    backfilled: Backfilled | None = None
    masked: Mapping[str, int] = field(default_factory=dict)
    rarest: ClassRows | None = None
    leaks: Leaks | None = None
    unread: Mapping[str, int] = field(default_factory=dict)
    outliers: tuple[Outliers, ...] = ()
    segment: SegmentReference | None = None
    held: HeldSegment | None = None
    held_rows: int = 0
    awaiting_labels: int = 0
    writer_schemas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetFailed:
    """A freeze that came to nothing. `request_id` is empty when no request led to it."""

    pipeline: str
    reason: str
    request_id: str = ""
    incarnation: int = 0
    held: HeldSegment | None = None


@dataclass(frozen=True, slots=True)
class DatasetReference:
    """A frozen dataset and where its manifest is."""

    dataset_id: str
    manifest: Artifact
