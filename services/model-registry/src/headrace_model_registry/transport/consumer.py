"""Facts and progress as they come from Kafka."""

import logging
from typing import TypeVar

from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.records import Record
from headrace_runtime.topics import (
    DATASET_FAILED,
    DATASET_FROZEN,
    DATASET_PROGRESSED,
    KEY_FORGOTTEN,
    MODEL_COMPRESSED,
    MODEL_TRAINED,
    PIPELINE_TROUBLED,
    QUALITY_MEASURED,
    RUN_FAILED,
    RUN_PROGRESSED,
    Topic,
)

from headrace_model_registry.core import facts
from headrace_model_registry.core.facts import Fact
from headrace_model_registry.core.progress import (
    DatasetProgressed,
    PipelineTroubled,
    Progress,
    QualityMeasured,
    RunProgressed,
)
from headrace_model_registry.transport.converters import from_message

logger = logging.getLogger(__name__)

T = TypeVar("T")

FACTS: dict[Topic, type[Fact]] = {
    DATASET_FROZEN: facts.DatasetFrozen,
    DATASET_FAILED: facts.DatasetFailed,
    KEY_FORGOTTEN: facts.KeyForgotten,
    MODEL_TRAINED: facts.ModelTrained,
    MODEL_COMPRESSED: facts.ModelCompressed,
    RUN_FAILED: facts.RunFailed,
}
"""What the registry learns from other services."""

PROGRESS: dict[Topic, type[Progress]] = {
    DATASET_PROGRESSED: DatasetProgressed,
    RUN_PROGRESSED: RunProgressed,
    PIPELINE_TROUBLED: PipelineTroubled,
    QUALITY_MEASURED: QualityMeasured,
}
"""What it shows and never records."""

_FACTS_BY_NAME = {topic.name: (topic, kind) for topic, kind in FACTS.items()}
_PROGRESS_BY_NAME = {topic.name: (topic, kind) for topic, kind in PROGRESS.items()}


def to_fact(record: Record) -> Fact | None:
    """Return the fact in a message, None after a warning when there is none to be had from it."""
    topic, kind = _FACTS_BY_NAME[record.topic]
    return _read(record, topic, kind)


def to_progress(record: Record) -> Progress | None:
    """Return the progress in a message, None after a warning when there is none to be had from it."""
    topic, kind = _PROGRESS_BY_NAME[record.topic]
    return _read(record, topic, kind)


def _read(record: Record, topic: Topic, kind: type[T]) -> T | None:
    try:
        return from_message(kind, decode(record, topic.message))
    except Unprocessable as error:
        logger.warning("passed over %s: %s", record.coordinates, error)
        return None
