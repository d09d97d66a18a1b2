"""How long a run keeps going while its partition is away. A group of one member is played here: real ones are in
tests/contract/test_run_worker.py."""

from __future__ import annotations

from typing import cast

import pytest
from headrace_runtime.errors import Unavailable
from headrace_runtime.kafka.consumers import GroupConsumer
from headrace_runtime.records import Offsets, Place, Record
from headrace_runtime.runs.lease import AWAY_S, Lease, Moved

PLACE: Place = ("commands", 0)


class Group:
    """What a consumer tells of its partitions, as a test says."""

    def __init__(self) -> None:
        self.mine = {PLACE}
        self.came: set[Place] = {PLACE}
        self.offset: int | Exception | None = None
        self.advanced: list[Offsets] = []
        self.now_s = 0.0

    def poll(self, _timeout_s: float) -> list[Record]:
        return []

    def pause(self) -> None: ...

    def rewind(self, records: list[Record]) -> None: ...

    def assignment(self) -> set[Place]:
        return self.mine

    def arrivals(self) -> Group:
        return self

    def new(self) -> set[Place]:
        came, self.came = self.came, set()
        return came

    def committed(self, places: list[Place]) -> dict[Place, int | None]:
        if isinstance(self.offset, Exception):
            raise self.offset
        return dict.fromkeys(places, self.offset)

    def advance(self, offsets: Offsets) -> None:
        self.advanced.append(offsets)

    def lost(self) -> None:
        self.mine = set()

    def back(self) -> None:
        self.mine = self.came = {PLACE}


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.fixture
def lease(group: Group) -> Lease:
    return Lease(Record(*PLACE, 7, None, None), cast(GroupConsumer, group), lambda: group.now_s)


def test_a_partition_that_stays_is_a_lease(group: Group, lease: Lease) -> None:
    assert lease.keep()
    lease.committed()
    assert group.advanced == []


def test_a_partition_that_comes_back_as_it_was_changes_nothing(group: Group, lease: Lease) -> None:
    group.lost()
    assert not lease.keep()
    group.now_s = AWAY_S
    assert not lease.keep()
    group.offset = 7
    group.back()
    assert lease.keep()
    lease.committed()
    assert group.advanced == [{PLACE: 8}]


def test_one_that_was_lost_and_is_back_between_two_looks_is_asked_for_too(group: Group, lease: Lease) -> None:
    group.back()
    group.offset = 8
    with pytest.raises(Moved, match="another worker has ended the command"):
        lease.keep()


def test_one_that_stays_away_has_moved(group: Group, lease: Lease) -> None:
    group.lost()
    assert not lease.keep()
    group.now_s = AWAY_S + 1
    with pytest.raises(Moved, match="the partition moved to another worker"):
        lease.keep()


def test_a_broker_that_does_not_answer_is_asked_again(group: Group, lease: Lease) -> None:
    group.back()
    group.offset = Unavailable("no coordinator")
    assert not lease.keep()
    group.offset = None
    assert lease.keep()
