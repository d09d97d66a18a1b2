"""Where a consumer group begins that has read nothing yet: kept in its committed offsets, before it has members."""

from __future__ import annotations

from contextlib import closing

from kafka.structs import ConsumerGroupMetadata

from headrace_runtime.kafka.admin import Admin
from headrace_runtime.kafka.producers import TransactionalProducer
from headrace_runtime.kafka.stamps import Membership
from headrace_runtime.settings import KafkaSettings


def begin_at_end(settings: KafkaSettings, group: str, topic: str, transactional_id: str) -> bool:
    """Have a group that has committed nothing of a topic read it from its end on; return whether it does so now.

    What is written from now on is read, however late, and partitions that the topic gets later are read whole. A
    timestamp could not say as much: producers set it as they like. Raises KafkaError when it cannot be committed.
    """
    with Admin(settings, transactional_id) as admin:
        if admin.has_committed(group, topic):
            return False
        ends = admin.offsets((topic, number) for number in range(admin.partitions_of(topic)))
        cluster_id, topic_ids = admin.cluster_id(), {topic: admin.topic_id(topic)}
    # In a transaction, as that is the one way for who is no member of a group that has some: for another topic.
    nobody = Membership(ConsumerGroupMetadata(group, -1, "", None), cluster_id, topic_ids)
    with closing(TransactionalProducer(settings, transactional_id)) as producer, producer.transaction() as transaction:
        transaction.commit_offsets({place: end for place, (_, end) in ends.items()}, nobody)
    return True
