"""Puts the model registry together."""

from functools import partial

from headrace.registry.v1.registry_service_pb2_grpc import add_RegistryServiceServicer_to_server
from headrace_data.log_chain import LogChain
from headrace_runtime.kafka import GroupConsumer, TransactionalProducer
from headrace_runtime.kafka.envelopes import new_id
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.process.service import Service
from headrace_runtime.rpc.host import GrpcHost

from headrace_model_registry.adapters.datasets import StoredDatasets
from headrace_model_registry.adapters.histories import newest_histories
from headrace_model_registry.adapters.log import KafkaLog, read_log
from headrace_model_registry.adapters.predictions import KafkaPredictions
from headrace_model_registry.adapters.records import KafkaRecords
from headrace_model_registry.adapters.row_proofs import StoredRows
from headrace_model_registry.adapters.signing import Signer
from headrace_model_registry.adapters.topics import KafkaTopics
from headrace_model_registry.core.collection import Collector
from headrace_model_registry.core.proving import Prover
from headrace_model_registry.core.registry import Registry
from headrace_model_registry.core.served import PredictionServed
from headrace_model_registry.core.state import State
from headrace_model_registry.core.stories import Stories
from headrace_model_registry.settings import Settings
from headrace_model_registry.transport.consumer import FACTS, PROGRESS
from headrace_model_registry.transport.converters import from_log_entry, from_message
from headrace_model_registry.transport.growth import Growth
from headrace_model_registry.transport.outgoing import EMITTED
from headrace_model_registry.transport.rollouts import Rollouts
from headrace_model_registry.transport.servicer import SERVICE_NAME, RegistryServicer
from headrace_model_registry.transport.tail import Tail
from headrace_model_registry.transport.watch import Watchers
from headrace_model_registry.transport.writer import LogWriter

NAME = "model-registry"
TRANSACTIONAL_ID = "registry"
GROUP = "registry"
SINGLE = "0"
"""The group's one member, whatever the instance is called: a second registry takes the first one's place."""


def build(settings: Settings) -> Service:
    """Return the registry: it serves once its log was read to the end, and stops serving before it lets the log go."""
    state, chain = State(), LogChain(settings.accept_log_breaks_until)
    topics = KafkaTopics(settings, settings.new_topic_partitions)

    def take_over() -> TransactionalProducer:
        topics.check(topic.name for topic in (*FACTS, *PROGRESS, *EMITTED.values()))
        return TransactionalProducer(settings, TRANSACTIONAL_ID)

    source = f"{NAME}/{new_id()}"
    writer = LogWriter(
        source,
        state,
        take_over,
        partial(GroupConsumer, settings, group=GROUP, topics=[topic.name for topic in FACTS], instance=SINGLE),
        partial(read_log, settings, from_log_entry, settings.skipped(), chain),
        chain,
    )
    watchers = Watchers(state)
    store = ObjectStore(settings.store_url)
    datasets = StoredDatasets(store)
    predictions = KafkaPredictions(settings, partial(from_message, PredictionServed))
    stories = Stories(state, predictions, KafkaRecords(settings), datasets)
    histories = partial(newest_histories, settings)
    collector = Collector(state, writer, store, histories, settings.gc_grace_s)
    rows = StoredRows(store, datasets, histories)
    log, signer = KafkaLog(settings, settings.skipped()), Signer(settings.signing_key_file)
    prover = Prover(state, log, predictions, store, rows, signer)
    registry = Registry(state, topics, writer, new_id, histories)
    servicer = RegistryServicer(registry, stories, watchers, collector, prover)
    host = GrpcHost(settings.listening(), [partial(add_RegistryServiceServicer_to_server, servicer)], [SERVICE_NAME])
    growth = Growth(settings, state, writer)
    return Service(
        NAME, [writer, Tail(settings, state, source), growth, Rollouts(state, writer), host, collector, watchers]
    )
