"""The registry's log, read from its first entry to its end."""

import logging
from collections.abc import Iterator

from headrace.registry.v1 import registry_log_pb2
from headrace_runtime.errors import FailedPrecondition
from headrace_runtime.kafka import LogReader
from headrace_runtime.messages import decode
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import REGISTRY_LOG

from headrace_model_registry.core.facts import LogEntry
from headrace_model_registry.transport.converters import from_log_entry

logger = logging.getLogger(__name__)


def read_log(settings: KafkaSettings) -> Iterator[LogEntry]:
    """Yield every committed entry up to the end that the log has now.

    Raises FailedPrecondition when the beginning is gone, and Unprocessable when an entry cannot be read: a registry
    that forgets would decide wrongly, so it does not start.
    """
    with LogReader(settings, "registry.log") as reader:
        places = reader.partitions(REGISTRY_LOG.name)
        reader.start_at(dict.fromkeys(places))
        first = reader.position(places[0])
        if first:
            raise FailedPrecondition(f"topic {REGISTRY_LOG.name} begins at offset {first}: its first entries are gone")
        for records in reader.read_to(reader.ends(places)):
            for record in records:
                yield from_log_entry(decode(record, registry_log_pb2.LogEntry))
