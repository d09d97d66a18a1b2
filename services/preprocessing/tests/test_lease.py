from typing import Any

import pytest
from headrace_preprocessing.transport import lease as module
from headrace_preprocessing.transport.lease import KEEP_EVERY_S, Lease
from headrace_runtime.kafka.producers import MembershipLost

PLACE = ("clean", 0)


class Member:
    """A member of a group that counts what keeps it alive."""

    group = "freeze.digits"

    def __init__(self) -> None:
        self.owned = {PLACE, ("clean", 1)}
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def poll(self, timeout_s: float) -> list[Any]:
        self.calls.append("poll")
        return []

    def assignment(self) -> set[tuple[str, int]]:
        return self.owned


class Clock:
    now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def lease(member: Any) -> Lease:
    return Lease(member, PLACE)


def test_long_work_keeps_the_membership_alive_and_not_for_each_batch(clock: Clock) -> None:
    member = Member()
    held = lease(member)
    for _ in range(1_000):
        held.keep()
    assert member.calls == ["pause", "poll"]
    clock.now_s += KEEP_EVERY_S
    held.keep()
    assert member.calls == ["pause", "poll"] * 2


def test_work_ends_once_the_partition_is_gone(clock: Clock) -> None:
    member = Member()
    held = lease(member)
    assert held.held()
    held.keep()
    member.owned = {("clean", 1)}
    clock.now_s += KEEP_EVERY_S
    with pytest.raises(MembershipLost, match=r"freeze\.digits: partition 0 was taken away"):
        held.keep()
    assert not held.held()
