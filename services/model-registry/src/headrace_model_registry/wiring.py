"""Builds the model registry: the only place that names concrete adapters."""

from functools import partial

from headrace.registry.v1.registry_service_pb2_grpc import add_RegistryServiceServicer_to_server
from headrace_runtime.grpc_host import GrpcHost
from headrace_runtime.kafka import GroupConsumer, TransactionalProducer
from headrace_runtime.messages import new_id
from headrace_runtime.service import Service
from headrace_runtime.topics import Topic

from headrace_model_registry.adapters.log import read_log
from headrace_model_registry.adapters.topics import KafkaTopics
from headrace_model_registry.core.registry import Registry
from headrace_model_registry.core.state import State
from headrace_model_registry.settings import Settings
from headrace_model_registry.transport.consumer import EMITTED, FACTS, PROGRESS
from headrace_model_registry.transport.servicer import SERVICE_NAME, RegistryServicer
from headrace_model_registry.transport.tail import ProgressTail
from headrace_model_registry.transport.watch import Watchers
from headrace_model_registry.transport.writer import LogWriter

TRANSACTIONAL_ID = "registry"
GROUP = "registry"
SINGLE = "0"
"""The group's one member, whatever the instance is called: a second registry takes the first one's place."""


class Checked:
    """Stops the start when topics are missing, or the log's topic would not keep the log."""

    def __init__(self, topics: KafkaTopics, needed: tuple[Topic, ...]) -> None:
        self._topics = topics
        self._needed = needed

    def start(self) -> None:
        """Check. Raises FailedPrecondition with everything that is wrong."""
        self._topics.check(topic.name for topic in self._needed)

    def stop(self) -> None:
        """Nothing to stop."""


def build(settings: Settings) -> Service:
    """Return the registry: it serves once its log was read to the end, and stops serving before it lets the log go."""
    state = State()
    topics = KafkaTopics(settings, settings.new_topic_partitions)
    writer = LogWriter(
        state,
        partial(TransactionalProducer, settings, TRANSACTIONAL_ID),
        partial(GroupConsumer, settings, group=GROUP, topics=[topic.name for topic in FACTS], instance=SINGLE),
        partial(read_log, settings),
    )
    watchers = Watchers(state)
    servicer = RegistryServicer(Registry(state, topics, writer, new_id), watchers)
    host = GrpcHost(settings.listen_address, [partial(add_RegistryServiceServicer_to_server, servicer)], [SERVICE_NAME])
    needed = (*FACTS, *PROGRESS, *EMITTED.values())
    return Service("model-registry", [Checked(topics, needed), writer, ProgressTail(settings, state), host, watchers])
