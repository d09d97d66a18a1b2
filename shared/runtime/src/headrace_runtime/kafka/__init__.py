"""Kafka clients with the settings that Headrace depends on; no other package creates one.

kafka-python's defaults are wrong for this platform in four places: `isolation_level`, `auto_offset_reset`,
`enable_auto_commit` and `allow_auto_create_topics`.
"""

from headrace_runtime.kafka.admin import Admin, GroupLag
from headrace_runtime.kafka.consumers import GroupConsumer
from headrace_runtime.kafka.events import BatchedEvents, EventProducer
from headrace_runtime.kafka.producers import Fenced, Transaction, TransactionalProducer
from headrace_runtime.kafka.readers import LogReader
from headrace_runtime.kafka.views import CompactedView

__all__ = [
    "Admin",
    "BatchedEvents",
    "CompactedView",
    "EventProducer",
    "Fenced",
    "GroupConsumer",
    "GroupLag",
    "LogReader",
    "Transaction",
    "TransactionalProducer",
]
