"""Puts the preprocessing service together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace_data.decoders import schemas_of
from headrace_data.spec import Pipeline, parse_canonical
from headrace_runtime.kafka import Admin, EventProducer, GroupConsumer, TransactionalProducer
from headrace_runtime.kafka.gaps import Gap
from headrace_runtime.kafka.troubles import Troubles
from headrace_runtime.key_files import KEYS_SETTING, KeyFolder
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.process.service import Component, Service, settle
from headrace_runtime.record_topics import group_of, raw_topic
from headrace_runtime.records import Outgoing
from headrace_runtime.stream.cuts import NewestCuts
from headrace_runtime.stream.loops import TransactionLoop
from headrace_runtime.stream.pipelines import PipelineParts

from headrace_preprocessing.adapters.clean_log import rows_between
from headrace_preprocessing.adapters.forgotten_now import ForgottenNow
from headrace_preprocessing.adapters.histories import Histories
from headrace_preprocessing.adapters.retentions import retentions
from headrace_preprocessing.adapters.seen_log import SeenLog
from headrace_preprocessing.adapters.topic_ranges import TopicRanges
from headrace_preprocessing.core.cleaner import Cleaner
from headrace_preprocessing.ports import Outside
from headrace_preprocessing.settings import Settings
from headrace_preprocessing.transport.awaited_specs import AwaitedSpecs
from headrace_preprocessing.transport.clean_messages import CleanMessages
from headrace_preprocessing.transport.consumer import gap_messages, handler
from headrace_preprocessing.transport.converters import Origin
from headrace_preprocessing.transport.freezer import Freezer
from headrace_preprocessing.transport.live_quality import QualityWatch
from headrace_preprocessing.transport.suspects import BatchSuspects

NAME = "preprocessing"


def build(settings: Settings) -> Service:
    """Return the service: a cleaning loop and a freezer for each pipeline."""
    events, cuts = EventProducer(settings, NAME), NewestCuts(settings, NAME)

    def parts(applied: PipelineApplied) -> list[Component]:
        return _pipeline_parts(settings, events, cuts, pipelines.ask, applied)

    pipelines = PipelineParts(settings, NAME, parts)
    settle()
    return Service(NAME, [events, cuts, pipelines])


def _pipeline_parts(
    settings: Settings,
    events: EventProducer,
    cuts: NewestCuts,
    ask: Callable[[], threading.Event],
    applied: PipelineApplied,
) -> list[Component]:
    pipeline = parse_canonical(applied.spec.json).incarnated(applied.incarnation)
    cleaner = Cleaner(pipeline)
    cleaner.forgotten = ForgottenNow(pipeline, cuts, ObjectStore(settings.store_url))
    name = group_of(NAME, pipeline.own_name)
    troubles = Troubles(settings, NAME)

    def tell(subject: str, reason: str) -> None:
        troubles.tell(pipeline.name, name, reason, subject)

    def account(gap: Gap) -> Sequence[Outgoing]:
        tell(str(gap), gap.reason)
        return gap_messages(gap, pipeline)

    messages = CleanMessages(pipeline, tell, AwaitedSpecs(pipeline.digest, ask).known)
    loop = TransactionLoop(
        name,
        partial(
            GroupConsumer,
            settings,
            group=name,
            topics=[raw_topic(pipeline.own_name)],
            instance=settings.instance,
            max_records=settings.poll_batches,
            partitions=applied.partitions,
        ),
        partial(TransactionalProducer, settings, f"{name}.{settings.instance}"),
        handler(cleaner),
        SeenLog(settings, cleaner, messages.keys),
        BatchSuspects(cleaner),
        AwaitedSpecs(pipeline.digest, ask).ready,
        account,
    )
    return [loop, *_freezing(settings, pipeline, events, messages, tell)]


def _freezing(
    settings: Settings,
    pipeline: Pipeline,
    events: EventProducer,
    messages: CleanMessages,
    tell: Callable[[str, str], None],
) -> list[Component]:
    origin = partial(_origin, settings, pipeline.stream.topic)
    histories = Histories(settings, pipeline, ObjectStore(settings.store_url))
    keys = KeyFolder(settings.personal_keys_dir, KEYS_SETTING).key
    topics, kept = TopicRanges(settings, settings.stall_s), partial(retentions, settings, pipeline)
    outside = Outside(partial(rows_between, settings), histories, topics, keys, kept)
    freezer = Freezer(settings, pipeline, events, origin, messages, tell, outside)
    return [freezer, *_quality(settings, pipeline, events, freezer)]


def _quality(settings: Settings, pipeline: Pipeline, events: EventProducer, freezer: Freezer) -> list[Component]:
    if not pipeline.serve.quality:
        return []
    schemas = partial(schemas_of, pipeline.stream.of_labels, settings.registry_access)
    return [QualityWatch(settings, pipeline, events, schemas, freezer.freezes.is_set)]


def _origin(settings: Settings, topic: str) -> Origin:
    with Admin(settings, NAME) as admin:
        return Origin(admin.cluster_id(), admin.topic_id(topic))
