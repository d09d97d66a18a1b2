"""Puts the preprocessing service together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pyarrow as pa
from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace_data.spec import parse_canonical
from headrace_runtime.kafka import Admin, EventProducer, GroupConsumer, TransactionalProducer
from headrace_runtime.loops import Restore, TransactionLoop
from headrace_runtime.messages import Place
from headrace_runtime.pipelines import PipelineParts
from headrace_runtime.service import Component, Service, settle
from headrace_runtime.topics import raw_topic

from headrace_preprocessing.adapters.clean_log import last_rows
from headrace_preprocessing.core.cleaner import Cleaner
from headrace_preprocessing.settings import Settings
from headrace_preprocessing.transport.awaited_specs import AwaitedSpecs
from headrace_preprocessing.transport.consumer import handler
from headrace_preprocessing.transport.converters import Origin
from headrace_preprocessing.transport.freezer import Freezer
from headrace_preprocessing.transport.suspects import BatchSuspects

NAME = "preprocessing"


def build(settings: Settings) -> Service:
    """Return the service: a cleaning loop and a freezer for each pipeline."""
    events = EventProducer(settings, NAME)

    def parts(applied: PipelineApplied) -> list[Component]:
        return _pipeline_parts(settings, events, pipelines.ask, applied)

    pipelines = PipelineParts(settings, NAME, parts)
    settle()
    return Service(NAME, [events, pipelines])


def _pipeline_parts(
    settings: Settings, events: EventProducer, ask: Callable[[], threading.Event], applied: PipelineApplied
) -> list[Component]:
    pipeline = parse_canonical(applied.spec.json)
    cleaner = Cleaner(pipeline)
    name = f"{NAME}.{pipeline.name}"
    loop = TransactionLoop(
        name,
        partial(
            GroupConsumer,
            settings,
            group=name,
            topics=[raw_topic(pipeline.name)],
            instance=settings.instance,
            max_records=settings.poll_batches,
        ),
        partial(TransactionalProducer, settings, f"{name}.{settings.instance}"),
        handler(cleaner),
        _restorer(settings, cleaner),
        BatchSuspects(cleaner),
        AwaitedSpecs(pipeline.digest, ask).ready,
    )
    return [loop, Freezer(settings, pipeline, events, partial(_origin, settings, pipeline.stream.topic))]


def _origin(settings: Settings, topic: str) -> Origin:
    with Admin(settings, NAME) as admin:
        return Origin(admin.cluster_id(), admin.topic_id(topic))


def _restorer(settings: Settings, cleaner: Cleaner) -> Restore:
    def restore(places: set[Place], beat: Callable[[], None]) -> None:
        name, window = cleaner.pipeline.name, cleaner.window
        for _, partition in places:
            rows = last_rows(settings, name, partition, window, beat) if window else []
            cleaner.restore(partition, _beating(rows, beat))

    return restore


def _beating(batches: Iterable[pa.RecordBatch], beat: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        beat()
        yield batch
