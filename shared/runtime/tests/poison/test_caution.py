"""A loop's caution against a log with bad records in it, while processes die, end in good order and meet faults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from headrace_runtime.errors import Unavailable
from headrace_runtime.poison import caution as module
from headrace_runtime.poison.bisection import Mark
from headrace_runtime.poison.caution import Caution, FaultEverywhere
from headrace_runtime.records import Outgoing, Record
from hypothesis import given, settings
from hypothesis import strategies as st

PLACE = ("topic", 0)
WHOLE = -1
"""Row of what is parked without being opened."""


class Death(Exception):
    """The process that handled something is gone, and nothing of it is left but what was committed."""


@dataclass
class World:
    """One partition, what was committed of it, and who would die of what."""

    sizes: Sequence[int]
    """Rows of each message."""
    bad: frozenset[tuple[int, int]]
    """Offset and row; with the row `WHOLE`, of a message that cannot be opened."""
    dice: Random
    faults: float = 0.0
    """How often a process meets a fault that is none of the records', or is killed by someone."""
    committed: int = 0
    note: str = ""
    passed: list[tuple[int, int]] = field(default_factory=list)
    parked: list[tuple[int, int]] = field(default_factory=list)
    trials: int = 0
    closed: int = 0

    def dies(self, offset: int, rows: Sequence[int]) -> bool:
        return (offset, WHOLE) in self.bad or any((offset, row) in self.bad for row in rows)

    def disturb(self) -> None:
        if self.dice.random() < self.faults:
            raise self.dice.choice([Death(), Unavailable("the broker is away")])

    def attempt(self, records: Sequence[Record], rows: Sequence[int] | None = None) -> str | None:
        self.trials += 1
        self.disturb()
        return (
            "died"
            if any(self.dies(item.offset, self._rows(item) if rows is None else rows) for item in records)
            else None
        )

    def close(self) -> None:
        self.closed += 1

    def open_trial(self) -> "World":
        return self

    def rows(self, record: Record) -> int:
        return self.sizes[record.offset]

    def handle(self, records: Sequence[Record]) -> list[Outgoing]:
        if any(self.dies(record.offset, self._rows(record)) for record in records):
            raise Death
        return [said("passed", record.offset, row) for record in records for row in self._rows(record)]

    def handle_without(self, record: Record, faults: Mapping[int, str]) -> list[Outgoing]:
        good = [row for row in self._rows(record) if row not in faults]
        if self.dies(record.offset, good):
            raise Death
        return [said("passed", record.offset, row) for row in good] + [
            said("parked", record.offset, row) for row in faults
        ]

    def park(self, record: Record, reason: str) -> list[Outgoing]:
        assert reason == "died"
        return [said("parked", record.offset, 0 if self.sizes[record.offset] == 1 else WHOLE)]

    def _rows(self, record: Record) -> Sequence[int]:
        return range(self.sizes[record.offset])

    def commit(self, end: int, messages: Sequence[Outgoing], note: str) -> None:
        self.disturb()
        for message in messages:
            place = tuple(int(part) for part in (message.value or b"").split())
            (self.passed if message.key == b"passed" else self.parked).append((place[0], place[1]))
        self.committed, self.note = end, note

    def live(self, most: int) -> None:
        """Be one process, until it dies, ends, or is at the end of the log; as the loop does it."""
        caution = Caution("loop", self, self.handle, most)
        while self.committed < len(self.sizes):
            records = [
                Record("topic", 0, offset, None, b"") for offset in range(self.committed, len(self.sizes))[:most]
            ]
            if unbegun := caution.unbegun(records):
                (note,) = caution.begin(unbegun, {PLACE: self.note}, lambda _: {PLACE: len(self.sizes)}).values()
                self.commit(self.committed, [], note)
            if not caution.suspects(PLACE):
                self.commit(records[-1].offset + 1, self.handle(records), "")
                continue
            step = caution.step(records)
            if step.records:
                self.commit(step.records[-1].offset + 1, step.messages, step.note)
                caution.committed(step)

    def run(self, most: int, processes: int) -> int:
        """Start one process after another, and return how many it took."""
        for number in range(1, processes + 1):
            try:
                self.live(most)
            except (Death, Unavailable):
                continue
            return number
        raise AssertionError(f"not through after {processes} processes")


def said(outcome: str, offset: int, row: int) -> Outgoing:
    return Outgoing("out", outcome.encode(), b"%d %d" % (offset, row))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=20))
    places = [(offset, row) for offset, size in enumerate(sizes) for row in range(size)]
    places += [(offset, WHOLE) for offset, size in enumerate(sizes) if size > 1]
    bad = draw(st.frozensets(st.sampled_from(places), max_size=4))
    return World(sizes, bad, Random(draw(st.integers(0, 1_000))))


@given(worlds(), st.integers(1, 8), st.sampled_from([0.0, 0.1]))
@settings(deadline=None)
def test_exactly_the_bad_are_parked_whatever_else_happens(world: World, most: int, faults: float) -> None:
    world.faults = faults
    world.run(most, 400)
    closed = {offset for offset, row in world.bad if row == WHOLE}
    expected = {(offset, row) for offset, row in world.bad if offset not in closed or row == WHOLE}
    assert sorted(world.parked) == sorted(expected)
    every = [(offset, row) for offset, size in enumerate(world.sizes) for row in range(size) if offset not in closed]
    assert world.passed == [place for place in every if place not in world.bad]


def test_three_deaths_of_the_service_are_enough() -> None:
    world = World([10_000], frozenset({(0, 7_777)}), Random(1))
    assert world.run(16, 10) == 3
    assert world.parked == [(0, 7_777)]
    assert len(world.passed) == 9_999
    assert world.trials < 40


def test_the_only_row_of_a_message_is_parked_as_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    # A row can be replayed; the bytes of a message that could not be opened cannot.
    monkeypatch.setattr(World, "park", lambda *_: pytest.fail("parked as a whole"))
    world = World([1, 1], frozenset({(0, 0)}), Random(1))
    world.run(4, 10)
    assert (world.parked, world.passed) == ([(0, 0)], [(1, 0)])


def test_a_message_without_rows_is_parked_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "rows", lambda *_: 0)
    monkeypatch.setattr(World, "handle_without", lambda *_: pytest.fail("looked into"))
    world = World([1, 1], frozenset({(0, 0)}), Random(1))
    world.run(4, 10)
    assert (world.parked, world.passed) == ([(0, 0)], [(1, 0)])


def test_a_partition_that_went_to_another_is_no_more_suspected_here() -> None:
    world = World([1, 1, 1], frozenset(), Random(1))
    caution = Caution("moved", world, world.handle, 2)
    gauge = module.SUSPECTED.labels("moved")
    caution.suspect([Record("topic", 0, 0, None, b"")], "ValueError: a bug")
    caution.keep([PLACE])
    assert (caution.suspects(PLACE), gauge._value.get()) == (True, 1)
    caution.keep([("topic", 1)])
    assert (caution.suspects(PLACE), gauge._value.get(), world.closed) == (False, 0, 1)


def test_a_fault_of_something_else_parks_nothing_however_often_it_comes() -> None:
    world = World([1] * 20, frozenset(), Random(1), faults=1.0)
    for _ in range(10):
        with pytest.raises((Death, Unavailable)):
            world.live(5)
        # Begun, and never ended: what a broker leaves that takes offsets and no records.
        world.note = Mark(Mark.read(world.note).begun + 1).text()
    assert (world.passed, world.parked) == ([], [])
    world.faults = 0.0
    world.live(5)
    assert (world.passed, world.parked) == ([(offset, 0) for offset in range(20)], [])


def test_a_handler_that_fails_is_careful_at_once_and_trusts_again_afterwards() -> None:
    world = World([1, 1, 1], frozenset(), Random(1))
    caution = Caution("loop", world, world.handle, 2)
    records = [Record("topic", 0, offset, None, b"") for offset in range(3)]
    assert caution.unbegun(records) == {PLACE: 0}
    caution.begin({PLACE: 0}, {PLACE: ""}, lambda _: {PLACE: 3})
    assert not caution.unbegun(records)
    caution.suspect(records[:2], "ValueError: a bug")
    first = caution.step(records)
    caution.committed(first)
    assert ([record.offset for record in first.records], first.note) == ([0, 1, 2], "")
    assert not caution.suspects(PLACE)
    caution.forget([PLACE])
    assert caution.unbegun(records) == {PLACE: 0}


def test_a_service_that_dies_of_everything_stops_instead_of_parking_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_IN_A_ROW", 5)
    world = World([1] * 50, frozenset((offset, 0) for offset in range(50)), Random(1))
    with pytest.raises(FaultEverywhere, match="the fault is not the records'"):
        world.run(8, 10)
    # Whoever is started next does not begin to count anew.
    with pytest.raises(FaultEverywhere):
        world.run(8, 10)
    assert len(world.parked) == 5
