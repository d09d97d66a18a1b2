"""Keys that are forgotten: asked for by their digests, and what was done about each."""

from dataclasses import dataclass
from datetime import datetime

from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.facts.pipelines import PipelineSpec


@dataclass(frozen=True, slots=True)
class KeyDigest:
    """What stands for a key: a digest of it, and which secret that was made with. Nobody here knows either's origin."""

    secret: str
    digest: str


@dataclass(frozen=True, slots=True)
class Forget:
    """A key whose rows are to leave all that a pipeline keeps; `specs` are those that it ever had."""

    key: KeyDigest
    specs: tuple[PipelineSpec, ...] = ()
    retrain: bool = False


@dataclass(frozen=True, slots=True)
class ForgottenSegment:
    """Rows of a key in a segment."""

    segment_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class ForgottenDataset:
    """Rows of a key that a dataset took, by split."""

    dataset_id: str
    train: int = 0
    validation: int = 0
    test: int = 0


@dataclass(frozen=True, slots=True)
class ErasedObject:
    """An object that is in the store no longer, and what is there in its place; empty where nothing is."""

    kind: str
    digest: str
    replacement: str = ""


@dataclass(frozen=True, slots=True)
class SearchedObjects:
    """Objects of one kind that were looked through."""

    kind: str
    objects: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ForgettingTopic:
    """Where records of a key lie, and until when; None where that is for ever, or there are none."""

    topic: str
    holds: str
    end_time: datetime | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class KeyForgotten:
    """What was done about a key."""

    pipeline: str
    request_id: str
    key: KeyDigest
    incarnation: int = 0
    segments: tuple[ForgottenSegment, ...] = ()
    datasets: tuple[ForgottenDataset, ...] = ()
    erased: tuple[ErasedObject, ...] = ()
    searched: tuple[SearchedObjects, ...] = ()
    topics: tuple[ForgettingTopic, ...] = ()
    left: tuple[str, ...] = ()
    retrain: bool = False
    segment_count: int = 0
    rows: int = 0
    erased_count: int = 0
    whole: Artifact | None = None
