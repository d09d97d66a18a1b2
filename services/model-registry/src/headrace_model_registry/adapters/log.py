"""The registry's log, read from its first entry to its end."""

import logging
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from datetime import UTC, datetime

from headrace.registry.v1 import registry_log_pb2
from headrace_data.log_chain import Break, Claim, LogChain
from headrace_runtime.errors import FailedPrecondition, Unprocessable
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.away import CALL_BOOTSTRAP_MS, kafka_answering
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import REGISTRY_LOG

from headrace_model_registry.core.facts import LogEntry

logger = logging.getLogger(__name__)

_SETTING = "HEADRACE_SKIP_LOG_OFFSETS"
_ACCEPT = "HEADRACE_ACCEPT_LOG_BREAKS_UNTIL"

_NAMED = 20
"""Most unreadable entries that are described; the offsets of all are listed."""

ToEntry = Callable[[registry_log_pb2.LogEntry], LogEntry]


def read_log(
    settings: KafkaSettings,
    to_entry: ToEntry,
    skipped: Collection[int] = (),
    chain: LogChain | None = None,
) -> Iterator[LogEntry]:
    """Yield every committed entry up to the end that the log has now; `skipped` offsets hold none.

    `to_entry` returns what a message says, and raises Unprocessable where it says nothing that is known. `chain` takes
    the entries, and knows the log's tree afterwards.

    Raises FailedPrecondition when the beginning is gone, when entries cannot be read, which it names all at once, when
    one of the skipped can, and when the chain is broken: a registry that forgets, or believes what somebody changed,
    would decide wrongly, so it does not start.
    """
    chain = LogChain() if chain is None else chain
    unreadable: dict[int, str] = {}
    with LogReader(settings, "registry.log") as reader:
        for record in _records(reader):
            try:
                message = decode(record, registry_log_pb2.LogEntry)
                entry = to_entry(message)
            except Unprocessable as error:
                unreadable[record.offset] = _described(record, error)
                continue
            if record.offset in skipped:
                raise FailedPrecondition(f"{record.coordinates} holds an entry: take it out of {_SETTING}")
            chain.take(record.offset, record.value or b"", Claim(message.entries_before, message.root_before))
            yield entry
    for offset in sorted(unreadable.keys() & set(skipped)):
        logger.warning("passed over %s", unreadable[offset])
    if unreadable.keys() - set(skipped):
        raise FailedPrecondition(_way_out(unreadable))
    if chain.first_break:
        raise FailedPrecondition(_told(chain.first_break, chain.last_broken))
    if chain.last_broken >= 0:
        logger.warning("the chain of the log is broken up to offset %s, which %s accepts", chain.last_broken, _ACCEPT)


class KafkaLog:
    """The log's bytes, read for a call. Raises Unavailable when Kafka does not answer."""

    def __init__(self, settings: KafkaSettings, skipped: Collection[int] = ()) -> None:
        """`skipped` offsets hold no entries."""
        self._settings = settings
        self._skipped = skipped

    def lines(self) -> Generator[tuple[int, bytes]]:
        """Yield offset and bytes of every committed entry up to the end that the log has now."""
        with (
            kafka_answering(self._settings, "the registry's log cannot be read"),
            LogReader(self._settings, "registry.log.lines", CALL_BOOTSTRAP_MS) as reader,
        ):
            for record in _records(reader):
                if record.offset not in self._skipped:
                    yield record.offset, record.value or b""


def _records(reader: LogReader) -> Iterator[Record]:
    places = reader.partitions(REGISTRY_LOG.name)
    reader.start_at(dict.fromkeys(places))
    first = reader.position(places[0])
    if first:
        raise FailedPrecondition(f"topic {REGISTRY_LOG.name} begins at offset {first}: its first entries are gone")
    for records in reader.read_to(reader.ends(places)):
        yield from records


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


def _told(found: Break, last: int) -> str:
    """Say where the chain is broken first, and how to go on; `last` is the offset of the last entry that tells."""
    return (
        f"the chain of {REGISTRY_LOG.name} is broken at offset {found.offset}: expected {found.expected}, got "
        f"{found.got}. Something before that offset was changed, taken out or put in after it was recorded. It does "
        "not start, because it would decide by what nobody recorded. Restore the topic from a copy; `headrace verify "
        "--kafka --head FILE` with a head that was saved before tells whether it is whole. To go on with the log as it "
        f"lies, which the log shows for good, start with {_ACCEPT}={last}"
    )
