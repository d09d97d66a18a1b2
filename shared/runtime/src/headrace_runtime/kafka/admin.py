"""Topics, partitions and consumer lag, through Kafka's admin API."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from kafka import IsolationLevel, KafkaAdminClient, OffsetSpec, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from headrace_runtime.errors import FailedPrecondition, InvalidInput, Unavailable
from headrace_runtime.kafka.stamps import Stamp
from headrace_runtime.poison.bisection import Mark
from headrace_runtime.record_topics import EVERY_PIPELINES, SCORED, RecordTopic, record_topics
from headrace_runtime.records import Place
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topic_plan import PlannedTopic, TopicPlan

GROWN_TIMEOUT_S = 15.0
GROWN_POLL_S = 0.1
COORDINATOR_TIMEOUT_S = 15.0
_NO_COORDINATOR_YET = (
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.NotCoordinatorError,
    kafka_errors.CoordinatorLoadInProgressError,
)


@dataclass(frozen=True, slots=True)
class GroupLag:
    """How far one consumer group is behind on one topic, in messages (transaction markers count).

    Partitions of which the group has read nothing yet count from their beginning.
    """

    group: str
    topic: str
    messages: int
    suspected: int = 0
    """Partitions in which a poison message is suspected (see `poison.caution`)."""


@dataclass(frozen=True, slots=True)
class PartitionState:
    """One partition: broker ids of its leader and replicas, its first offset, and the end for committed readers."""

    partition: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    first_offset: int
    end_offset: int


_UNMAKEABLE = (
    kafka_errors.InvalidTopicError,
    kafka_errors.InvalidPartitionsError,
    kafka_errors.InvalidReplicationFactorError,
    kafka_errors.InvalidConfigurationError,
    kafka_errors.PolicyViolationError,
)
"""Errors of the broker that a repeated request to create a topic cannot cure."""


_GROUP_ANSWERS = ("OK", "NonEmptyGroupError", "GroupIdNotFoundError")
"""What brokers answer to the deletion of a group, in the names of kafka-python."""


class Admin:
    """Creates topics and reads metadata of the cluster. Not thread-safe."""

    def __init__(self, settings: KafkaSettings, name: str, bootstrap_timeout_ms: int = 30_000) -> None:
        """Wait at most `bootstrap_timeout_ms` for the first broker to answer."""
        self._client = KafkaAdminClient(
            client_id=f"{name}.admin", bootstrap_timeout_ms=bootstrap_timeout_ms, **settings.kafka_client()
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_ended: object) -> None:
        self.close()

    def ensure_control_topics(self) -> None:
        """Create the control topics that do not exist yet, at the embedded platform's size."""
        self.ensure_topics(TopicPlan.embedded())

    def ensure_topics(self, plan: TopicPlan) -> list[str]:
        """Create the topics of a plan that do not exist yet and return their names; the others stay as they are."""
        return self._ensure(plan.topics)

    def ensure_record_topics(self, pipeline: str, partitions: int) -> None:
        """Create the topics that each pipeline has which do not exist yet."""
        self._ensure({topic.name(pipeline): _planned(topic, partitions) for topic in EVERY_PIPELINES})

    def ensure_scored_topic(self, pipeline: str, partitions: int) -> None:
        """Create a pipeline's topic of answers unless it exists, and give it at least so many partitions."""
        name = SCORED.name(pipeline)
        self._ensure({name: _planned(SCORED, partitions)})
        self._grow([name], partitions)

    def ensure_topic(self, name: str, partitions: int) -> None:
        """Create one topic with the broker's settings unless it exists."""
        self._ensure({name: PlannedTopic(partitions=partitions)})

    def _ensure(self, topics: Mapping[str, PlannedTopic]) -> list[str]:
        existing = set(self._client.list_topics())
        missing = {name: _creatable(topic) for name, topic in topics.items() if name not in existing}
        if not missing:
            return []
        try:
            self._client.create_topics(missing, wait_for_metadata=True)
        except kafka_errors.TopicAlreadyExistsError:
            # Another process created some of the topics meanwhile; the others are still missing.
            return self._ensure(topics)
        return sorted(missing)

    def create_topic(self, name: str, topic: PlannedTopic) -> None:
        """Create a topic that must not exist yet, and wait until the broker serves it.

        Raises FailedPrecondition when it exists, and InvalidInput with the broker's reason when the broker refuses it.
        """
        answer = self._client.create_topics({name: _creatable(topic)}, raise_errors=False)["topics"][0]
        error, reason = kafka_errors.for_code(answer["error_code"]), answer.get("error_message")
        if error is kafka_errors.TopicAlreadyExistsError:
            raise FailedPrecondition(f"topic '{name}' exists already, with {self.partitions_of(name)} partitions")
        if error in _UNMAKEABLE:
            raise InvalidInput(f"topic '{name}' cannot be created: {reason or error.message}")
        if error is not kafka_errors.NoError:
            raise error(reason)
        self._client.wait_for_topics([name])

    def delete_topics(self, names: Iterable[str]) -> list[str]:
        """Delete topics and return the names of those that existed."""
        existing = sorted(set(names) & set(self._client.list_topics()))
        if existing:
            self._client.delete_topics(existing)
        return existing

    def delete_groups(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """Delete consumer groups; return the names of those that are deleted now, and of those that have members."""
        answers: Mapping[str, str] = self._client.delete_groups(list(names))
        wrong = {name: answer for name, answer in answers.items() if answer not in _GROUP_ANSWERS}
        if wrong:
            raise Unavailable(f"groups cannot be deleted: {wrong}")
        by_answer = {answer: [name for name, given in answers.items() if given == answer] for answer in _GROUP_ANSWERS}
        return by_answer["OK"], by_answer["NonEmptyGroupError"]

    def topics(self) -> dict[str, int]:
        """Return the number of partitions of every topic, by name."""
        described = self._client.describe_topics()
        return {str(item["name"]): len(item["partitions"]) for item in described if not item["error_code"]}

    def describe(self, topic: str) -> list[PartitionState]:
        """Return the partitions of a topic, by number; the topic must exist."""
        found = self._client.describe_topics([topic])[0]["partitions"]
        by_number = {int(item["partition_index"]): item for item in found}
        offsets = self.offsets((topic, number) for number in by_number)
        return [
            PartitionState(
                partition=number,
                leader=item["leader_id"],
                replicas=tuple(item["replica_nodes"]),
                in_sync=tuple(item["isr_nodes"]),
                first_offset=offsets[topic, number][0],
                end_offset=offsets[topic, number][1],
            )
            for number, item in sorted(by_number.items())
        ]

    def offsets(self, places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
        """Return the first offset and the last stable offset of each partition."""
        partitions = [TopicPartition(*place) for place in places]
        firsts, ends = (self._offsets(partitions, spec) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST))
        return {(each.topic, each.partition): (firsts[each], ends[each]) for each in partitions}

    def own_config(self, topic: str) -> dict[str, str]:
        """Return the settings of a topic that differ from the brokers' defaults."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        described = self._client.describe_configs([resource], config_filter="modified")
        return {
            key: str(item["value"])
            for key, item in described["topic"][topic].items()
            if item["config_source"] == "DYNAMIC_TOPIC_CONFIG"
        }

    def grow_record_topics(self, pipeline: str, partitions: int) -> None:
        """Give a pipeline's topics at least so many partitions; what is read grows after what is written from it.

        Returns once the broker that is asked knows them. Raises KafkaError; some topics may have grown then.
        """
        self._grow(record_topics(pipeline), partitions)

    def _grow(self, topics: Collection[str], partitions: int) -> None:
        for topic, count in reversed(self.partition_counts(topics).items()):
            if count < partitions:
                self._client.create_partitions({topic: partitions})
        deadline = time.monotonic() + GROWN_TIMEOUT_S
        while min(self.partition_counts(topics).values()) < partitions:
            if time.monotonic() > deadline:
                told = f"the new partitions are not known after {GROWN_TIMEOUT_S:.0f} s"
                raise Unavailable(f"{', '.join(topics)}: {told}")
            time.sleep(GROWN_POLL_S)

    def has_committed(self, group: str, topic: str) -> bool:
        """Return whether a consumer group has committed an offset of a topic."""
        deadline = time.monotonic() + COORDINATOR_TIMEOUT_S
        while True:
            try:
                listed: Mapping[Any, Any] = self._client.list_group_offsets([group]).get(group, {})
            except _NO_COORDINATOR_YET:
                # A cluster makes its topic of offsets for the first group that is asked for.
                if time.monotonic() > deadline:
                    raise
                time.sleep(GROWN_POLL_S)
            else:
                return any(partition.topic == topic and offset.offset >= 0 for partition, offset in listed.items())

    def partitions_of(self, topic: str) -> int:
        """Return the number of partitions of a topic; 0 when it does not exist."""
        return self.partition_counts([topic])[topic]

    def partition_counts(self, topics: Collection[str]) -> dict[str, int]:
        """Return the number of partitions of each topic; 0 for one that does not exist."""
        described = self._client.describe_topics(list(topics)) if topics else []
        found = {item["name"]: len(item["partitions"]) for item in described if not item["error_code"]}
        return {topic: found.get(topic, 0) for topic in topics}

    def topic_id(self, topic: str) -> str:
        """Return the topic's UUID at the broker, empty without a topic. One that was created again has a new one."""
        (described,) = self._client.describe_topics([topic])
        return "" if described["error_code"] else str(described["topic_id"])

    def cluster_id(self) -> str:
        """Return the cluster's id."""
        return str(self._client.describe_cluster()["cluster_id"])

    def topic_config(self, topic: str) -> dict[str, str]:
        """Return every setting of a topic as the broker sees it."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        described = self._client.describe_configs([resource], config_filter="all")
        return {key: str(item["value"]) for key, item in described["topic"][topic].items()}

    def lags(self, readers: Iterable[tuple[str, str]] = ()) -> list[GroupLag]:
        """Return the lag of every consumer group on every topic that it has committed offsets of.

        `readers` are groups with a topic that they read though they may have committed nothing yet.
        """
        groups = sorted(str(group["group_id"]) for group in self._client.list_groups())
        listed: Mapping[str, Mapping[Any, Any]] = self._client.list_group_offsets(groups) if groups else {}
        committed = {
            (group, partition): offset for group, offsets in listed.items() for partition, offset in offsets.items()
        }
        read = {(group, partition.topic) for group, partition in committed} | set(readers)
        counts = self.partition_counts(sorted({topic for _, topic in read}))
        everything = {topic: [TopicPartition(topic, number) for number in range(counts[topic])] for topic in counts}
        ends = self._offsets((each for places in everything.values() for each in places), OffsetSpec.LATEST)
        unread = {each for group, topic in read for each in everything[topic] if (group, each) not in committed}
        begins = self._offsets(unread, OffsetSpec.EARLIEST)
        lags = []
        for group, topic in sorted(read):
            messages = suspected = 0
            for partition in everything[topic]:
                offset = committed.get((group, partition))
                start = begins[partition] if offset is None else offset.offset
                messages += max(0, ends[partition] - start)
                suspected += offset is not None and Mark.read(Stamp.read(offset.metadata).note).is_suspicious(
                    offset.offset
                )
            lags.append(GroupLag(group, topic, messages, suspected))
        return lags

    def written_ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the end of each partition, open transactions and their markers included."""
        partitions = [TopicPartition(*place) for place in places]
        ends = self._offsets(partitions, OffsetSpec.LATEST, IsolationLevel.READ_UNCOMMITTED)
        return {(partition.topic, partition.partition): end for partition, end in ends.items()}

    def _offsets(
        self, partitions: Iterable[Any], spec: Any, isolation: IsolationLevel = IsolationLevel.READ_COMMITTED
    ) -> dict[Any, int]:
        specs = dict.fromkeys(partitions, spec)
        if not specs:
            return {}
        found = self._client.list_partition_offsets(specs, isolation_level=isolation)
        return {partition: result.offset for partition, result in found.items()}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _planned(topic: RecordTopic, partitions: int) -> PlannedTopic:
    return PlannedTopic(partitions=partitions, config=topic.config)


def _creatable(topic: PlannedTopic) -> dict[str, Any]:
    return {
        "num_partitions": topic.partitions,
        "replication_factor": topic.replication_factor,
        "configs": dict(topic.config),
    }
