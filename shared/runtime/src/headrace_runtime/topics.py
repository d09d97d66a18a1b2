"""The control topics of Headrace, declared once, each with its message; for the rest see `record_topics`.

Keys name the aggregate, so order holds for each pipeline, run or model. Compacted topics keep the newest message of
each key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from headrace.events.v1 import (
    canary_pb2,
    dataset_pb2,
    evaluation_pb2,
    forget_pb2,
    installation_pb2,
    model_pb2,
    pipeline_pb2,
    prediction_pb2,
    quality_pb2,
    record_pb2,
    rollout_pb2,
    run_pb2,
    segment_pb2,
)
from headrace.registry.v1 import registry_log_pb2

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FOREVER = -1


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: what it carries, how it is keyed and how long it is kept."""

    name: str
    message: type[Message]
    key: str
    """What the key is, in the words of docs/topics.md."""
    key_of: Callable[[Any], str]
    """Returns the key of a message of this topic."""
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    purpose: str
    partitions: int = 3
    production_partitions: int = 6
    compacted: bool = False
    retention_ms: int = 30 * DAY_MS

    @property
    def config(self) -> Mapping[str, str]:
        """The topic's settings at the broker."""
        if self.compacted:
            expiry = {} if self.retention_ms == FOREVER else {"retention.ms": str(self.retention_ms)}
            policy = "compact" if self.retention_ms == FOREVER else "compact,delete"
            return {"cleanup.policy": policy, "min.cleanable.dirty.ratio": "0.1", **expiry}
        return {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms), "retention.bytes": "-1"}


def _field(name: str) -> Callable[[Any], str]:
    return lambda message: str(getattr(message, name))


INSTALLATION_CLAIMED = Topic(
    "headrace.installation.claimed.v1",
    installation_pb2.InstallationClaimed,
    "none",
    lambda _: "",
    ("provision",),
    ("provision",),
    "the installation that the topics belong to: the first claim holds",
    partitions=1,
    production_partitions=1,
    retention_ms=FOREVER,
)
PIPELINE_APPLIED = Topic(
    "headrace.pipeline.applied.v1",
    pipeline_pb2.PipelineApplied,
    "pipeline",
    _field("pipeline"),
    ("model-registry",),
    ("ingestion", "preprocessing", "inference"),
    "the spec in force of each pipeline",
    partitions=1,
    production_partitions=1,
    compacted=True,
    retention_ms=FOREVER,
)
PIPELINE_TROUBLED = Topic(
    "headrace.pipeline.troubled.v1",
    pipeline_pb2.PipelineTroubled,
    "pipeline",
    _field("pipeline"),
    ("ingestion", "preprocessing", "model-registry", "inference"),
    ("model-registry",),
    "what is wrong with a pipeline, or no longer (lossy)",
    partitions=1,
    production_partitions=1,
    retention_ms=7 * DAY_MS,
)
PUSH_ACCEPTED = Topic(
    "headrace.push.accepted.v1",
    record_pb2.PushAccepted,
    "pipeline/batch id",
    lambda message: f"{message.pipeline}/{message.batch_id}",
    ("ingestion",),
    ("ingestion",),
    "the answers that pushed batches got",
    partitions=1,
    production_partitions=1,
    compacted=True,
    # Pushes are remembered for a day, replays for longer than their dead letters are kept.
    retention_ms=8 * DAY_MS,
)
DATASET_REQUESTED = Topic(
    "headrace.dataset.requested.v1",
    dataset_pb2.DatasetRequested,
    "pipeline",
    _field("pipeline"),
    ("model-registry",),
    ("preprocessing",),
    "freeze now, whatever the freeze policy says; or an order, such as to take history in, or about a held segment",
    partitions=1,
)
DATASET_PROGRESSED = Topic(
    "headrace.dataset.progressed.v1",
    dataset_pb2.DatasetProgressed,
    "pipeline",
    _field("pipeline"),
    ("preprocessing",),
    ("model-registry",),
    "how far the next dataset has filled (lossy)",
    partitions=1,
    retention_ms=DAY_MS,
)
SEGMENT_CUT = Topic(
    "headrace.segment.cut.v1",
    segment_pb2.SegmentCut,
    "pipeline",
    lambda message: f"{message.pipeline}.{message.incarnation}" if message.incarnation else str(message.pipeline),
    ("preprocessing",),
    ("ingestion", "preprocessing", "model-registry"),
    "the segments of each pipeline, of which its datasets are made",
    partitions=1,
    production_partitions=1,
    compacted=True,
    retention_ms=FOREVER,
)
DATASET_FROZEN = Topic(
    "headrace.dataset.frozen.v1",
    dataset_pb2.DatasetFrozen,
    "pipeline",
    _field("pipeline"),
    ("preprocessing",),
    ("model-registry", "preprocessing"),
    "an immutable dataset exists",
)
DATASET_FAILED = Topic(
    "headrace.dataset.failed.v1",
    dataset_pb2.DatasetFailed,
    "pipeline",
    _field("pipeline"),
    ("preprocessing",),
    ("model-registry",),
    "a freeze came to nothing, or its segment is held",
)
KEY_FORGOTTEN = Topic(
    "headrace.key.forgotten.v1",
    forget_pb2.KeyForgotten,
    "pipeline",
    _field("pipeline"),
    ("preprocessing",),
    ("model-registry",),
    "the rows of a key left all that a pipeline keeps",
)
TRAINING_REQUESTED = Topic(
    "headrace.training.requested.v1",
    run_pb2.TrainingRequested,
    "run",
    _field("run_id"),
    ("model-registry",),
    ("trainer",),
    "train a version from a dataset",
)
COMPRESSION_REQUESTED = Topic(
    "headrace.compression.requested.v1",
    run_pb2.CompressionRequested,
    "run",
    _field("run_id"),
    ("model-registry",),
    ("compressor",),
    "compress a version and measure its variants",
)
EVALUATION_REQUESTED = Topic(
    "headrace.evaluation.requested.v1",
    evaluation_pb2.EvaluationRequested,
    "run",
    _field("run_id"),
    ("model-registry",),
    ("compressor",),
    "score the version that is served on a new segment",
)
TRAINING_DECIDED = Topic(
    "headrace.training.decided.v1",
    evaluation_pb2.TrainingDecided,
    "pipeline",
    _field("pipeline"),
    ("model-registry",),
    (),
    "whether a dataset is trained on, and why",
)
RUN_PROGRESSED = Topic(
    "headrace.run.progressed.v1",
    run_pb2.RunProgressed,
    "run",
    _field("run_id"),
    ("trainer", "compressor"),
    ("model-registry",),
    "how far a run is (lossy)",
    partitions=1,
    retention_ms=DAY_MS,
)
RUN_FAILED = Topic(
    "headrace.run.failed.v1",
    run_pb2.RunFailed,
    "run",
    _field("run_id"),
    ("trainer", "compressor"),
    ("model-registry",),
    "a run ended without a result",
)
MODEL_TRAINED = Topic(
    "headrace.model.trained.v1",
    model_pb2.ModelTrained,
    "model",
    _field("model"),
    ("trainer",),
    ("model-registry",),
    "a new version exists",
)
MODEL_COMPRESSED = Topic(
    "headrace.model.compressed.v1",
    model_pb2.ModelCompressed,
    "version",
    _field("version_id"),
    ("compressor",),
    ("model-registry",),
    "a version's variants are measured",
)
MODEL_EVALUATED = Topic(
    "headrace.model.evaluated.v1",
    evaluation_pb2.ModelEvaluated,
    "version",
    _field("version_id"),
    ("compressor",),
    ("model-registry",),
    "what the version that is served scores on a new segment",
)
MODEL_RELEASED = Topic(
    "headrace.model.released.v1",
    model_pb2.ModelReleased,
    "model@alias",
    lambda message: f"{message.model}@{message.alias}",
    ("model-registry",),
    ("inference",),
    "an alias moved: serve this variant",
    partitions=1,
    production_partitions=1,
    compacted=True,
    retention_ms=FOREVER,
)
MODEL_REFUSED = Topic(
    "headrace.model.refused.v1",
    model_pb2.ModelRefused,
    "model",
    _field("model"),
    ("model-registry",),
    (),
    "a version was not released, and why",
)
CANARY_JUDGED = Topic(
    "headrace.canary.judged.v1",
    canary_pb2.CanaryJudged,
    "version",
    _field("version_id"),
    ("compressor",),
    ("model-registry",),
    "a version was held against another on rows of the past",
)
ROLLOUT_OBSERVED = Topic(
    "headrace.rollout.observed.v1",
    rollout_pb2.RolloutObserved,
    "model/replica",
    lambda message: f"{message.model}/{message.replica}",
    ("inference",),
    ("model-registry",),
    "what a replica counted of a candidate beside the champion (lossy)",
    partitions=1,
    production_partitions=1,
    compacted=True,
    retention_ms=7 * DAY_MS,
)
PREDICTION_SERVED = Topic(
    "headrace.prediction.served.v2",
    prediction_pb2.PredictionsServed,
    "none",
    lambda _: "",
    ("inference",),
    ("model-registry", "preprocessing"),
    "calls that a replica answered within a moment",
    production_partitions=12,
    retention_ms=7 * DAY_MS,
)
QUALITY_MEASURED = Topic(
    "headrace.quality.measured.v1",
    quality_pb2.QualityMeasured,
    "pipeline",
    _field("pipeline"),
    ("preprocessing",),
    ("model-registry",),
    "how good answers were whose labels came later (lossy)",
    partitions=1,
    retention_ms=DAY_MS,
)
REGISTRY_LOG = Topic(
    "headrace.registry.log.v1",
    registry_log_pb2.LogEntry,
    "none",
    lambda _: "",
    ("model-registry",),
    ("model-registry",),
    "everything the registry knows, append-only, kept for ever",
    partitions=1,
    production_partitions=1,
    retention_ms=FOREVER,
)

CONTROL_TOPICS: tuple[Topic, ...] = (
    INSTALLATION_CLAIMED,
    PIPELINE_APPLIED,
    PIPELINE_TROUBLED,
    PUSH_ACCEPTED,
    DATASET_REQUESTED,
    DATASET_PROGRESSED,
    SEGMENT_CUT,
    DATASET_FROZEN,
    DATASET_FAILED,
    KEY_FORGOTTEN,
    TRAINING_REQUESTED,
    COMPRESSION_REQUESTED,
    EVALUATION_REQUESTED,
    TRAINING_DECIDED,
    RUN_PROGRESSED,
    RUN_FAILED,
    MODEL_TRAINED,
    MODEL_COMPRESSED,
    MODEL_EVALUATED,
    MODEL_RELEASED,
    MODEL_REFUSED,
    CANARY_JUDGED,
    ROLLOUT_OBSERVED,
    PREDICTION_SERVED,
    QUALITY_MEASURED,
    REGISTRY_LOG,
)
"""Every topic that exists whatever pipelines are applied."""

_BY_MESSAGE = {topic.message: topic for topic in CONTROL_TOPICS}


def topic_of(message: type[Message]) -> Topic:
    """Return the control topic that carries messages of this class. Raises KeyError for others."""
    return _BY_MESSAGE[message]
