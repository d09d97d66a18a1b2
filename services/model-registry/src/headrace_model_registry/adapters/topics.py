"""The cluster's topics through Kafka's admin API."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from headrace_runtime.errors import FailedPrecondition, Unavailable
from headrace_runtime.kafka import Admin
from headrace_runtime.kafka.away import CALL_BOOTSTRAP_MS, kafka_answering
from headrace_runtime.kafka.beginnings import begin_at_end
from headrace_runtime.record_topics import RECORD_TOPICS, SCORED, record_topics
from headrace_runtime.services import PIPELINE_GROUPS
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import REGISTRY_LOG
from kafka.errors import KafkaError

from headrace_model_registry.core.queries import Lag

_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
"""What keeps the log whole; compaction or a time limit would make the registry forget."""

BEGINNINGS = "registry.beginnings"
"""Transactional id of what commits where consumer groups begin."""

PURGE_S = 90.0
"""Longest wait for the loops of a deleted pipeline: twice the usual time of a session."""
PURGE_PAUSE_S = 0.5


class KafkaTopics:
    """Opens a client for each call: calls are rare, come from several threads, and must not keep connections.

    Every method raises Unavailable when Kafka does not answer.
    """

    def __init__(self, settings: KafkaSettings, new_topic_partitions: int) -> None:
        self._settings = settings
        self._new_topic_partitions = new_topic_partitions
        self._beginning = threading.Lock()

    def partitions_of(self, topic: str) -> int:
        """Return the number of partitions; 0 when the topic does not exist."""
        with self._admin() as admin:
            return admin.partitions_of(topic)

    def max_message_bytes(self, topic: str) -> int:
        """Return the largest message that a topic takes; 0 without it, or the operation DescribeConfigs on it."""
        with self._admin() as admin:
            try:
                return int(admin.topic_config(topic).get("max.message.bytes", 0))
            except (KafkaError, KeyError):
                return 0

    def create(self, topic: str) -> None:
        """Create a producers' topic unless it exists."""
        with self._admin() as admin:
            admin.ensure_topic(topic, self._new_topic_partitions)

    def create_record_topics(self, pipeline: str, partitions: int) -> int:
        """Create a pipeline's own topics, or make them grow to so many partitions; return how many they have.

        They never shrink: a producers' topic that was made anew may have fewer partitions than they.
        """
        with self._admin() as admin:
            admin.ensure_record_topics(pipeline, partitions)
            wanted = max(partitions, *admin.partition_counts(record_topics(pipeline)).values())
            admin.grow_record_topics(pipeline, wanted)
        return wanted

    def create_scored_topic(self, pipeline: str, source: str) -> None:
        """Create a pipeline's topic of answers to the records of a topic, or make it grow to as many partitions."""
        with self._admin() as admin:
            admin.ensure_scored_topic(pipeline, admin.partitions_of(source))

    def begin_at_end(self, group: str, topic: str) -> None:
        """Have a consumer group that has read nothing of a topic begin with what is written from now on."""
        told = f"where group {group} begins in topic {topic} cannot be kept"
        # One at a time: the second would fence the first.
        with self._beginning, kafka_answering(self._settings, told):
            begin_at_end(self._settings, group, topic, BEGINNINGS)

    def belongings(self, pipelines: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the names of the topics and of the consumer groups that pipelines have of their own."""
        scored = [SCORED.name(pipeline) for pipeline in pipelines]
        with self._admin() as admin:
            there = {topic for topic, partitions in admin.partition_counts(scored).items() if partitions}
        topics = [
            name
            for pipeline in pipelines
            for topic in RECORD_TOPICS
            if (name := topic.name(pipeline)) in there or topic is not SCORED
        ]
        return topics, self.groups(pipelines)

    def groups(self, pipelines: Sequence[str]) -> list[str]:
        """Return the names of the consumer groups that pipelines may have of their own, without a look at any."""
        return [group.format(pipeline=pipeline) for pipeline in pipelines for group in PIPELINE_GROUPS]

    def left_of(self, pipelines: Sequence[str]) -> list[str]:
        """Return those of the topics that pipelines have of their own which exist."""
        topics = [topic.name(pipeline) for pipeline in pipelines for topic in RECORD_TOPICS]
        with self._admin() as admin:
            return [topic for topic, partitions in admin.partition_counts(topics).items() if partitions]

    def purge(self, pipelines: Sequence[str]) -> tuple[list[str], list[str]]:
        """Delete the topics and consumer groups of pipelines that have ended, and return the names of those deleted.

        A group can be deleted once its members have left, or were silent for a session's time. Raises Unavailable when
        that takes longer.
        """
        topics, groups = self.belongings(pipelines)
        deadline = time.monotonic() + PURGE_S
        gone: list[str] = []
        with self._admin() as admin:
            while True:
                deleted, busy = admin.delete_groups(groups)
                gone += deleted
                if not busy:
                    return admin.delete_topics(topics), sorted(gone)
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"pipeline deleted, but not purged: after {PURGE_S:.0f} s somebody still works in groups "
                        f"{', '.join(busy)}; purge again later"
                    )
                time.sleep(PURGE_PAUSE_S)

    def lags(self, readers: Iterable[tuple[str, str]]) -> list[Lag]:
        """Return how far each consumer group is behind, by group and topic."""
        with self._admin() as admin:
            return [Lag(lag.group, lag.topic, lag.messages, lag.suspected) for lag in admin.lags(readers)]

    def check(self, needed: Iterable[str]) -> None:
        """Raise FailedPrecondition unless these topics exist and the log's settings keep it whole for ever."""
        with self._admin() as admin:
            partitions = {topic: admin.partitions_of(topic) for topic in (*needed, REGISTRY_LOG.name)}
            missing = sorted(topic for topic, count in partitions.items() if not count)
            if missing:
                raise FailedPrecondition(f"topics do not exist: {', '.join(missing)}")
            config = admin.topic_config(REGISTRY_LOG.name)
        found = {name: config.get(name) for name in _FOR_EVER} | {"partitions": str(partitions[REGISTRY_LOG.name])}
        wanted = _FOR_EVER | {"partitions": "1"}
        wrong = [f"{name} is {found[name]}, expected {value}" for name, value in wanted.items() if found[name] != value]
        if wrong:
            raise FailedPrecondition(f"topic {REGISTRY_LOG.name} would not keep the registry's log: {'; '.join(wrong)}")

    @contextmanager
    def _admin(self) -> Iterator[Admin]:
        with (
            kafka_answering(self._settings, "topics cannot be looked at or made"),
            Admin(self._settings, "registry", CALL_BOOTSTRAP_MS) as admin,
        ):
            yield admin
