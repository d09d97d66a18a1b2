"""What a loop does where processes have died: it tries messages elsewhere before it handles them, and parks the bad.

A note beside each committed offset counts the beginnings there. It is written once when a partition comes, before its
first messages are handled, and the next commit wipes it out: a loop that works pays nothing for it. A count only makes
suspicious. What is suspected is tried in a process of its own (see `trials`), by halves (see `bisection`), and nothing
is parked unless that process was seen to die of it alone, three times.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from prometheus_client import Counter, Gauge

from headrace_runtime.bisection import MOST_IN_A_ROW, Mark, Search
from headrace_runtime.errors import HeadraceError
from headrace_runtime.messages import Handle, Outgoing, Place, Record, by_place, next_offsets

logger = logging.getLogger(__name__)

TRIALS = Counter("headrace_trials", "Messages tried in a process of their own, by outcome.", ["loop", "outcome"])
PARKED = Counter("headrace_records_parked", "Records set aside because whoever handles them dies.", ["loop"])
SUSPECTED = Gauge("headrace_suspected_partitions", "Partitions whose messages are tried before handling.", ["loop"])


class TrialProcess(Protocol):
    """A process in which messages are tried: `trials.Trial`."""

    def attempt(self, records: Sequence[Record], rows: Sequence[int] | None = None) -> str | None:
        """Return None when the messages, or these rows of the only one, were handled, else of what it died."""

    def close(self) -> None:
        """End it."""


class Suspects(Protocol):
    """What a service knows of messages that may be bad."""

    def open_trial(self) -> TrialProcess:
        """Return a process for trials, which is started when it is needed."""

    def rows(self, record: Record) -> int:
        """Return how many rows a message holds; 0 when it has none to look at. Must not die of the message."""

    def handle_without(self, record: Record, faults: Mapping[int, str]) -> Sequence[Outgoing]:
        """Handle a message and park some of its rows, each with the reason."""

    def park(self, record: Record, reason: str) -> Sequence[Outgoing]:
        """Return what becomes of a message that is parked as a whole. Must not die of the message."""


class FaultEverywhere(HeadraceError):
    """So many messages in a row die that the fault must be the service's own."""


@dataclass(slots=True)
class _Inside:
    """The search within one message that holds many rows."""

    offset: int
    rows: int
    settled: int = 0
    """Rows before this one are settled."""
    search: Search = field(default_factory=Search)
    opens: bool = False
    """Whether the message can be opened at all: no row was looked at then."""
    opening: Search = field(default_factory=Search)
    rest: Search = field(default_factory=Search)
    faults: dict[int, str] = field(default_factory=dict)

    def good(self) -> list[int]:
        return [row for row in range(self.rows) if row not in self.faults]


@dataclass(slots=True)
class _Doubt:
    """What is known of one suspected partition."""

    until: int
    """Offset at which the suspicion ends, when nothing is known to be bad then."""
    in_a_row: int
    search: Search = field(default_factory=Search)
    inside: _Inside | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a look at suspected messages settled: nothing, or the first of them."""

    records: Sequence[Record] = ()
    messages: Sequence[Outgoing] = ()
    note: str = ""
    """What to note beside their offset."""


class Caution:
    """Knows the suspected partitions of one loop, and settles their messages step by step.

    Steps are small, so that the loop polls between them and keeps its membership.
    """

    def __init__(self, loop: str, suspects: Suspects, handle: Handle, most: int) -> None:
        """`most` is how many messages a batch may hold."""
        self._loop = loop
        self._suspects = suspects
        self._handle = handle
        # The batch that was died of reaches no further, where every message has a transaction and a marker of its own.
        self._reach = 2 * most
        self._begun: set[Place] = set()
        self._doubts: dict[Place, _Doubt] = {}
        self._trial = suspects.open_trial()

    def unbegun(self, records: Sequence[Record]) -> dict[Place, int]:
        """Return the first offset of each partition in which no beginning is noted yet."""
        return {place: found[0].offset for place, found in by_place(records).items() if place not in self._begun}

    def begin(
        self,
        offsets: Mapping[Place, int],
        notes: Mapping[Place, str],
        ends: Callable[[Collection[Place]], Mapping[Place, int]],
    ) -> dict[Place, str]:
        """Take in what was noted beside the committed offsets, and return what to note before anything is handled.

        `ends` returns the ends of partitions now: what came later nobody has died of yet.
        """
        marks = {place: Mark.read(note) for place, note in notes.items()}
        suspicious = {place: mark for place, mark in marks.items() if mark.is_suspicious(offsets[place])}
        if suspicious:
            now = ends(suspicious)
            for place, mark in suspicious.items():
                logger.warning("%s: %s was begun %s times: trying its messages", self._loop, place, mark.begun)
                # The last offset may be that of a transaction's marker, which nobody ever gets to see.
                until = min(now[place] - 1, offsets[place] + self._reach)
                self._doubts[place] = _Doubt(max(mark.until, until), mark.in_a_row)
        self._begun |= marks.keys()
        self._show()
        return {place: replace(mark, begun=mark.begun + 1).text() for place, mark in marks.items()}

    def suspect(self, records: Sequence[Record], reason: str) -> None:
        """Remember that handling these messages failed."""
        logger.warning("%s: handling %s messages failed, trying them: %s", self._loop, len(records), reason)
        for place, end in next_offsets(records).items():
            self._doubts[place] = _Doubt(end, 0)
        self._show()

    def forget(self, places: Collection[Place]) -> None:
        """Know nothing of partitions that have just come: others may have gone on there."""
        self._begun -= set(places)
        for place in places:
            self._doubts.pop(place, None)
        self._show()

    def keep(self, places: Collection[Place]) -> None:
        """Know nothing any more of partitions that are not among these: others go on there."""
        if gone := self._doubts.keys() - set(places):
            self.forget(gone)
            if not self._doubts:
                self._trial.close()

    def suspects(self, place: Place) -> bool:
        """Tell whether a partition's messages must be tried first."""
        return place in self._doubts

    def step(self, records: Sequence[Record]) -> Step:
        """Try some of a suspected partition's next messages. Raises FaultEverywhere, and Unavailable (see `trials`)."""
        doubt = self._doubts[records[0].place]
        if doubt.inside is None or doubt.inside.offset != records[0].offset:
            doubt.inside = None
            return self._among(records, doubt)
        return self._within(records[0], doubt, doubt.inside)

    def committed(self, step: Step) -> None:
        """Take in that a step's messages are settled for good."""
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
        """Look for the bad rows of a message that dies; it is settled as a whole."""
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
            # Each row lives alone, and all together do not.
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
        # Whoever takes over goes on being careful.
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
