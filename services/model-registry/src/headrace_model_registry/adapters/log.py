"""The registry's log, read from its first entry to its end."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime

from headrace.registry.v1 import registry_log_pb2
from headrace_runtime.errors import FailedPrecondition, Unprocessable
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import REGISTRY_LOG

from headrace_model_registry.core.facts import LogEntry

logger = logging.getLogger(__name__)

_SETTING = "HEADRACE_SKIP_LOG_OFFSETS"

_NAMED = 20
"""Most unreadable entries that are described; the offsets of all are listed."""


def read_log(
    settings: KafkaSettings, to_entry: Callable[[registry_log_pb2.LogEntry], LogEntry], skipped: Collection[int] = ()
) -> Iterator[LogEntry]:
    """Yield every committed entry up to the end that the log has now; `skipped` offsets hold none.

    `to_entry` returns what a message says, and raises Unprocessable where it says nothing that is known.

    Raises FailedPrecondition when the beginning is gone, when entries cannot be read, which it names all at once, and
    when one of the skipped can: a registry that forgets would decide wrongly, so it does not start.
    """
    unreadable: dict[int, str] = {}
    with LogReader(settings, "registry.log") as reader:
        places = reader.partitions(REGISTRY_LOG.name)
        reader.start_at(dict.fromkeys(places))
        first = reader.position(places[0])
        if first:
            raise FailedPrecondition(f"topic {REGISTRY_LOG.name} begins at offset {first}: its first entries are gone")
        for records in reader.read_to(reader.ends(places)):
            for record in records:
                try:
                    entry = to_entry(decode(record, registry_log_pb2.LogEntry))
                except Unprocessable as error:
                    unreadable[record.offset] = _described(record, error)
                    continue
                if record.offset in skipped:
                    raise FailedPrecondition(f"{record.coordinates} holds an entry: take it out of {_SETTING}")
                yield entry
    for offset in sorted(unreadable.keys() & set(skipped)):
        logger.warning("passed over %s", unreadable[offset])
    if unreadable.keys() - set(skipped):
        raise FailedPrecondition(_way_out(unreadable))


def _described(record: Record, error: Unprocessable) -> str:
    written = datetime.fromtimestamp(record.time_ms / 1_000, UTC).isoformat(timespec="seconds")
    writer = record.header("ce_source") or "somebody who does not say who he is"
    return f"{record.coordinates} (written {written} by {writer}, {len(record.value or b'')} bytes): {error}"


def _way_out(unreadable: Mapping[int, str]) -> str:
    named = "\n".join(f"  {text}" for text in list(unreadable.values())[:_NAMED])
    return (
        f"{len(unreadable)} messages of {REGISTRY_LOG.name} are no entries that this registry can read:\n{named}\n"
        "It does not start, because it would decide by less than was recorded. When a newer registry wrote them, start "
        "that version. When somebody else did, they are no entries: start with "
        f"{_SETTING}={','.join(str(offset) for offset in sorted(unreadable))}, which passes over them"
    )
