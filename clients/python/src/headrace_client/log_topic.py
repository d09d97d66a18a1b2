"""The registry's log straight from Kafka, for when no registry starts.

Needs the extra `headrace-client[kafka]`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from headrace.registry.v1 import proof_pb2

from headrace_client.brokers import CONNECT_TIMEOUT_MS, kafka_errors, kafka_settings

SKIPPED = "HEADRACE_SKIP_LOG_OFFSETS"
"""The registry's setting for what is no entry."""


def lines_in_kafka(command: str) -> Iterator[proof_pb2.LogLine]:
    """Yield the log's entries, oldest first, as `RegistryClient.log_lines` does.

    Raises ExtraMissing, naming the command, and what stands in the way of Kafka.
    """
    settings = kafka_settings(command)
    skipped = {int(offset) for offset in os.environ.get(SKIPPED, "").split(",") if offset.isdecimal()}
    with kafka_errors(settings):
        from headrace_runtime.kafka import LogReader
        from headrace_runtime.topics import REGISTRY_LOG

        with LogReader(settings, "headrace.verify", CONNECT_TIMEOUT_MS) as reader:
            places = reader.partitions(REGISTRY_LOG.name)
            reader.start_at(dict.fromkeys(places))
            for records in reader.read_to(reader.ends(places)):
                for record in records:
                    if record.offset not in skipped:
                        yield proof_pb2.LogLine(offset=record.offset, value=record.value or b"")
