"""The topics that each pipeline has for its records, declared once, and the groups that read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WEEK_MS = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class RecordTopic:
    """One of a pipeline's own topics; `{pipeline}` in the name stands for the name that the pipeline alone ever has."""

    template: str
    key: str
    value: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    purpose: str
    config: Mapping[str, str] = field(
        default_factory=lambda: {
            "cleanup.policy": "delete",
            "retention.ms": str(WEEK_MS),
            "max.message.bytes": str(8 * 1024 * 1024),
        }
    )

    def name(self, pipeline: str) -> str:
        """Return the topic's name for one pipeline."""
        return self.template.format(pipeline=pipeline)


RAW = RecordTopic(
    "headrace.records.{pipeline}.raw.v1",
    "none",
    "RecordBatch",
    ("ingestion",),
    ("preprocessing",),
    "records that match the schema, in Arrow batches",
)
CLEAN = RecordTopic(
    "headrace.records.{pipeline}.clean.v1",
    "none",
    "RecordBatch",
    ("preprocessing",),
    ("preprocessing",),
    "records that passed the cleaning rules, in Arrow batches",
)
DEAD = RecordTopic(
    "headrace.records.{pipeline}.dead.v1",
    "the producer's key",
    "the producer's bytes",
    ("ingestion", "preprocessing"),
    ("ingestion", "model-registry"),
    "rejected records with the reason in the headers",
)
SCORED = RecordTopic(
    "headrace.records.{pipeline}.scored.v1",
    "the producer's key",
    "JSON",
    ("inference",),
    (),
    "the model's answer to each record, of pipelines with `serve.scoring`; partitions as the topic of these records",
)
EVERY_PIPELINES: tuple[RecordTopic, ...] = (RAW, CLEAN, DEAD)
"""The topics of each pipeline, with as many partitions as its producers' topic."""
RECORD_TOPICS: tuple[RecordTopic, ...] = (*EVERY_PIPELINES, SCORED)
"""All topics that a pipeline may have of its own."""


def group_of(service: str, pipeline: str) -> str:
    """Return the consumer group in which a service reads the records of a pipeline."""
    return f"{service}.{pipeline}"


SCORING_GROUP = group_of("inference", "{pipeline}")
"""The consumer group that reads the records which a pipeline's model answers on a topic."""


def record_topics(pipeline: str) -> list[str]:
    """Return the names of the topics that each pipeline has of its own."""
    return [topic.name(pipeline) for topic in EVERY_PIPELINES]


def raw_topic(pipeline: str) -> str:
    """Return the name of the topic of checked records."""
    return RAW.name(pipeline)


def clean_topic(pipeline: str) -> str:
    """Return the name of the topic of cleaned records."""
    return CLEAN.name(pipeline)


def dead_topic(pipeline: str) -> str:
    """Return the name of the dead-letter topic."""
    return DEAD.name(pipeline)


def scored_topic(pipeline: str) -> str:
    """Return the name of the topic of answers."""
    return SCORED.name(pipeline)
