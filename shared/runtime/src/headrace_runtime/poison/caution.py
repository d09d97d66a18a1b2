"""Caution at offsets where processes died: messages are tried in a separate process, and poison messages are parked.

The metadata of each committed offset counts how often processes began there. The loop writes the count once for each
assignment of a partition, before it handles the first messages. The next commit clears the count, so a healthy loop has
no further cost. The count alone only makes a partition suspected. Suspected messages are tried in a process of their
own (see `trials`), by bisection (see `bisection`). A message, or a row of it, is parked only after that process was
seen to die of it alone three times.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from prometheus_client import Counter, Gauge

from headrace_runtime.errors import HeadraceError
from headrace_runtime.poison.bisection import MOST_IN_A_ROW, Mark, Search
from headrace_runtime.records import Handle, Outgoing, Place, Record, by_place, next_offsets

logger = logging.getLogger(__name__)

TRIALS = Counter("headrace_trials", "Messages tried in a process of their own, by outcome.", ["loop", "outcome"])
PARKED = Counter("headrace_records_parked", "Records set aside because whoever handles them dies.", ["loop"])
SUSPECTED = Gauge("headrace_suspected_partitions", "Partitions whose messages are tried before handling.", ["loop"])


class TrialProcess(Protocol):
    """A process in which messages are tried: `trials.Trial`."""

    def attempt(self, records: Sequence[Record], rows: Sequence[int] | None = None) -> str | None:
        """Handle the messages, or only these rows of a single message. Return None, or the cause of the death."""

    def close(self) -> None:
        """End the process."""


class Suspects(Protocol):
    """The operations of a service on messages that may be poison."""

    def open_trial(self) -> TrialProcess:
        """Return a process for trials. It starts at the first trial."""

    def rows(self, record: Record) -> int:
        """Return the number of rows in a message; 0 when it has none to search. Must survive a poison message."""

    def handle_without(self, record: Record, faults: Mapping[int, str]) -> Sequence[Outgoing]:
        """Handle a message, and park its faulty rows, each with its reason."""

    def park(self, record: Record, reason: str) -> Sequence[Outgoing]:
        """Return the output for a message that is parked as a whole. Must survive a poison message."""


class FaultEverywhere(HeadraceError):
    """So many successive messages caused a death that the fault must lie in the service."""


@dataclass(slots=True)
class _Inside:
    """The search for faulty rows within one message."""

    offset: int
    rows: int
    settled: int = 0
    """Index of the first row that is not settled."""
    search: Search = field(default_factory=Search)
    opens: bool = False
    """Whether a trial that read none of the rows could open the message."""
    opening: Search = field(default_factory=Search)
    rest: Search = field(default_factory=Search)
    faults: dict[int, str] = field(default_factory=dict)

    def good(self) -> list[int]:
        return [row for row in range(self.rows) if row not in self.faults]


@dataclass(slots=True)
class _Doubt:
    """The state of one suspected partition."""

    until: int
    """Offset at which the suspicion ends, unless a search is still going on there."""
    in_a_row: int
    search: Search = field(default_factory=Search)
    inside: _Inside | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step over suspected messages: the first of them are settled, or none."""

    records: Sequence[Record] = ()
    messages: Sequence[Outgoing] = ()
    note: str = ""
    """Metadata to commit with their offset."""


class Caution:
    """The suspected partitions of one loop. Their messages are settled step by step.

    Steps are small. The loop polls between two steps and so keeps its group membership.
    """

    def __init__(self, loop: str, suspects: Suspects, handle: Handle, most: int) -> None:
        """`most` is the greatest number of messages in a batch."""
        self._loop = loop
        self._suspects = suspects
        self._handle = handle
        # Upper bound of the offsets in a fatal batch: each message may be followed by its own transaction marker.
        self._reach = 2 * most
        self._begun: set[Place] = set()
        self._doubts: dict[Place, _Doubt] = {}
        self._trial = suspects.open_trial()

    def unbegun(self, records: Sequence[Record]) -> dict[Place, int]:
        """Return the first offset of each partition whose beginning is not recorded yet."""
        return {place: found[0].offset for place, found in by_place(records).items() if place not in self._begun}

    def begin(
        self,
        offsets: Mapping[Place, int],
        notes: Mapping[Place, str],
        ends: Callable[[Collection[Place]], Mapping[Place, int]],
    ) -> dict[Place, str]:
        """Read the metadata of the committed offsets. Return the metadata to write before any message is handled.

        `ends` returns the present ends of partitions. No process can have died of later messages.
        """
        marks = {place: Mark.read(note) for place, note in notes.items()}
        suspicious = {place: mark for place, mark in marks.items() if mark.is_suspicious(offsets[place])}
        if suspicious:
            now = ends(suspicious)
            for place, mark in suspicious.items():
                logger.warning("%s: %s was begun %s times: trying its messages", self._loop, place, mark.begun)
                # The last offset may hold a transaction marker, which no consumer returns.
                until = min(now[place] - 1, offsets[place] + self._reach)
                self._doubts[place] = _Doubt(max(mark.until, until), mark.in_a_row)
        self._begun |= marks.keys()
        self._show()
        return {place: replace(mark, begun=mark.begun + 1).text() for place, mark in marks.items()}

    def suspect(self, records: Sequence[Record], reason: str) -> None:
        """Suspect the partitions of messages whose handling failed."""
        logger.warning("%s: handling %s messages failed, trying them: %s", self._loop, len(records), reason)
        for place, end in next_offsets(records).items():
            self._doubts[place] = _Doubt(end, 0)
        self._show()

    def forget(self, places: Collection[Place]) -> None:
        """Drop the state of newly assigned partitions. Another process may have moved on there."""
        self._begun -= set(places)
        for place in places:
            self._doubts.pop(place, None)
        self._show()

    def keep(self, places: Collection[Place]) -> None:
        """Drop the state of all partitions but these. The others belong to other processes now."""
        if gone := self._doubts.keys() - set(places):
            self.forget(gone)
            if not self._doubts:
                self._trial.close()

    def suspects(self, place: Place) -> bool:
        """Return whether a partition's messages must be tried before they are handled."""
        return place in self._doubts

    def step(self, records: Sequence[Record]) -> Step:
        """Try the next messages of a suspected partition. Raises FaultEverywhere, and Unavailable (see `trials`)."""
        doubt = self._doubts[records[0].place]
        if doubt.inside is None or doubt.inside.offset != records[0].offset:
            doubt.inside = None
            return self._among(records, doubt)
        return self._within(records[0], doubt, doubt.inside)

    def committed(self, step: Step) -> None:
        """Record that the messages of a step were committed."""
        place = step.records[0].place
        if not step.note:
            del self._doubts[place]
            logger.info("%s: %s is suspected no more", self._loop, place)
        if not self._doubts:
            self._trial.close()
        self._show()

    def close(self) -> None:
        """End the process for trials."""
        self._trial.close()

    def _among(self, records: Sequence[Record], doubt: _Doubt) -> Step:
        offsets = doubt.search.piece([record.offset for record in records])
        piece = records[: len(offsets)]
        reason = self._try(piece, None)
        if reason is None:
            doubt.search = doubt.search.passed(offsets)
            doubt.in_a_row = 0
            return self._settled(piece, self._handle(piece), doubt)
        doubt.search = doubt.search.died(offsets)
        if len(piece) > 1:
            return Step()
        if rows := self._suspects.rows(piece[0]):
            doubt.inside = _Inside(piece[0].offset, rows)
        elif doubt.search.convicts:
            return self._park(piece[0], reason, doubt)
        return Step()

    def _within(self, record: Record, doubt: _Doubt, inside: _Inside) -> Step:
        """Search for the faulty rows of a poison message. The message is settled as a whole."""
        if not inside.opens:
            reason = self._try([record], [])
            inside.opens = reason is None
            inside.opening = inside.opening if reason is None else inside.opening.died([0])
            return self._park(record, reason, doubt) if reason and inside.opening.convicts else Step()
        if inside.settled < inside.rows:
            self._next_row(record, doubt, inside)
            return Step()
        reason = self._try([record], inside.good())
        if reason is not None:
            inside.rest = inside.rest.died([0])
            if not inside.rest.convicts:
                return Step()
            # Each row passes alone, but all of them together cause a death.
            rows = inside.good()
            self._convict(f"{record.coordinates} with {len(rows)} rows", reason, doubt)
            inside.faults |= dict.fromkeys(rows, reason)
        doubt.search, doubt.inside = Search(), None
        return self._settled([record], self._suspects.handle_without(record, inside.faults), doubt)

    def _next_row(self, record: Record, doubt: _Doubt, inside: _Inside) -> None:
        piece = inside.search.piece(range(inside.settled, inside.rows))
        reason = self._try([record], piece)
        if reason is None:
            inside.search, inside.settled = inside.search.passed(piece), piece[-1] + 1
            doubt.in_a_row = 0
            return
        inside.search = inside.search.died(piece)
        if inside.search.convicts:
            self._convict(f"{record.coordinates} row {piece[0]}", reason, doubt)
            inside.faults[piece[0]] = reason
            inside.search, inside.settled = Search(), piece[0] + 1

    def _park(self, record: Record, reason: str, doubt: _Doubt) -> Step:
        self._convict(record.coordinates, reason, doubt)
        doubt.search, doubt.inside = Search(), None
        return self._settled([record], self._suspects.park(record, reason), doubt)

    def _convict(self, what: str, reason: str, doubt: _Doubt) -> None:
        if doubt.in_a_row >= MOST_IN_A_ROW:
            raise FaultEverywhere(
                f"{self._loop}: {MOST_IN_A_ROW} records in a row were set aside, and {what} dies too: "
                f"the fault is not the records' ({reason})"
            )
        doubt.in_a_row += 1
        PARKED.labels(self._loop).inc()
        logger.error("%s: %s is set aside: %s", self._loop, what, reason)

    def _settled(self, records: Sequence[Record], messages: Sequence[Outgoing], doubt: _Doubt) -> Step:
        end = records[-1].offset + 1
        over = end >= doubt.until and doubt.search.is_over
        # The next owner of the partition stays cautious.
        return Step(records, messages, "" if over else Mark(1, doubt.until, doubt.in_a_row).text())

    def _try(self, records: Sequence[Record], rows: Sequence[int] | None) -> str | None:
        reason = self._trial.attempt(records, rows)
        TRIALS.labels(self._loop, "passed" if reason is None else "died").inc()
        if reason is not None:
            which = f"{records[0].coordinates}-{records[-1].offset}"
            tried = "all" if rows is None else len(rows)
            logger.warning("%s: a trial of %s (rows %s) died: %s", self._loop, which, tried, reason)
        return reason

    def _show(self) -> None:
        SUSPECTED.labels(self._loop).set(len(self._doubts))
