"""Puts the ingestion service together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace.ingestion.v1.ingestion_service_pb2_grpc import add_IngestionServiceServicer_to_server
from headrace_data.decoders import schemas_of
from headrace_data.spec import parse_canonical
from headrace_runtime.kafka import GroupConsumer, TransactionalProducer
from headrace_runtime.kafka.gaps import Gap
from headrace_runtime.kafka.troubles import Troubles
from headrace_runtime.key_files import KEYS_SETTING, KeyFolder
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.process.service import Component, Service, settle
from headrace_runtime.record_topics import group_of
from headrace_runtime.records import Outgoing
from headrace_runtime.rpc.host import MAX_ANSWER_BYTES, GrpcHost
from headrace_runtime.stream.cuts import NewestCuts
from headrace_runtime.stream.loops import TransactionLoop
from headrace_runtime.stream.pipelines import PipelineParts

from headrace_ingestion.adapters.dead_log import DeadLog
from headrace_ingestion.adapters.forgotten_now import ForgottenNow
from headrace_ingestion.adapters.push_log import PushLog
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.core.line import PushLine
from headrace_ingestion.settings import Settings
from headrace_ingestion.transport.acceptance import Entrance
from headrace_ingestion.transport.consumer import gap_messages, handler
from headrace_ingestion.transport.dead_letters import DeadLetterDesk
from headrace_ingestion.transport.push_streams import PushStreams
from headrace_ingestion.transport.pushes import PushDesk
from headrace_ingestion.transport.servicer import SERVICE_NAME, IngestionServicer
from headrace_ingestion.transport.suspects import IntakeSuspects

NAME = "ingestion"


def build(settings: Settings) -> Service:
    """Return the service: a loop for each pipeline, and the gRPC server."""
    entrances: dict[str, Entrance] = {}
    log, cuts = PushLog(settings), NewestCuts(settings, NAME)

    def forget(pipeline: str) -> None:
        entrances.pop(pipeline, None)

    pipelines = PipelineParts(settings, NAME, partial(_pipeline_parts, settings, entrances, cuts), forget)
    # Transactions of one producer come one after another anyway.
    writing = ThreadPoolExecutor(1, thread_name_prefix="push")
    letters = DeadLetterDesk(
        partial(DeadLog, settings),
        entrances,
        log,
        writing,
        pipelines.catch_up,
        MAX_ANSWER_BYTES,
        settings.registry_access,
    )
    pushes = PushDesk(entrances, log, writing, PushLine(settings.push_waiting_bytes))
    streams = PushStreams(pushes)
    servicer = IngestionServicer(pushes, streams, letters)
    host = GrpcHost(
        settings.listening(),
        [partial(add_IngestionServiceServicer_to_server, servicer)],
        [SERVICE_NAME],
        settings.max_message_bytes,
    )
    settle()
    return Service(NAME, [log, cuts, pipelines, host, streams])


def _pipeline_parts(
    settings: Settings, entrances: dict[str, Entrance], cuts: NewestCuts, applied: PipelineApplied
) -> list[Component]:
    try:
        intake = _intake(settings, applied, cuts)
    except Exception:
        # The spec before it may store what is not to be stored any more.
        entrances.pop(applied.pipeline, None)
        raise
    pipeline = intake.pipeline
    entrances[pipeline.name] = Entrance(intake, applied.partitions)
    name = group_of(NAME, pipeline.own_name)

    def account(gap: Gap) -> Sequence[Outgoing]:
        Troubles(settings, NAME).tell(pipeline.name, name, gap.reason, subject=str(gap))
        return gap_messages(gap, intake)

    loop = TransactionLoop(
        name,
        partial(_consumer, settings, name, intake, applied.partitions),
        partial(TransactionalProducer, settings, f"{name}.{settings.instance}"),
        handler(intake),
        suspects=IntakeSuspects(intake, settings.registry_access),
        account=account,
    )
    return [loop]


def _consumer(settings: Settings, name: str, intake: Intake, partitions: int) -> GroupConsumer:
    # Before anything is read: without its key the pipeline waits, and says so.
    intake.require_key()
    topic = intake.pipeline.stream.topic
    consumer = GroupConsumer(
        settings,
        group=name,
        topics=[topic],
        instance=settings.instance,
        max_records=min(settings.poll_records, intake.most_records),
        partitions=partitions,
    )
    intake.topic_id = partial(consumer.topic_id, topic)
    return consumer


def _intake(settings: Settings, applied: PipelineApplied, cuts: NewestCuts) -> Intake:
    pipeline = parse_canonical(applied.spec.json).incarnated(applied.incarnation)
    keys = KeyFolder(settings.personal_keys_dir, KEYS_SETTING).key
    schemas = schemas_of(pipeline.stream, settings.registry_access)
    payloads = ObjectStore(settings.store_url) if pipeline.stream.references else None
    sizes = settings.batch_bytes, settings.max_record_bytes
    intake = Intake(pipeline, *sizes, keys=keys, schemas=schemas, payloads=payloads)
    intake.forgotten = ForgottenNow(pipeline, cuts, ObjectStore(settings.store_url))
    intake.keys_dir = settings.personal_keys_dir
    intake.store_url = settings.store_url
    return intake
