from __future__ import annotations

import pytest
from headrace_runtime.priorities import FIRST, LAST, NORMAL
from headrace_runtime.rpc.admission import Admission, Capacity, Reason
from headrace_runtime.rpc.turns import Turns


def test_priority_decides_and_then_arrival() -> None:
    turns = Turns[str](level_s=10.0)
    for place, (call, priority) in enumerate([("c", NORMAL), ("e", LAST), ("d", NORMAL), ("a", FIRST), ("b", FIRST)]):
        turns.add(call, priority, float(place))
    assert [turns.next() for _ in range(len(turns))] == list("abcde")
    with pytest.raises(IndexError):
        turns.next()


def test_who_waits_long_enough_goes_before_who_is_more_urgent() -> None:
    turns = Turns[str](level_s=10.0)
    turns.add("old", LAST, 0.0)
    for call, came_s in (("soon enough", 39.0), ("too late", 41.0)):
        turns.add(call, FIRST, came_s)
    assert [turns.next() for _ in range(3)] == ["soon enough", "old", "too late"]


def test_who_leaves_waits_no_longer() -> None:
    turns, calls = Turns[list[str]](level_s=1.0), [["a"], ["a"]]  # equal, and not the same
    for call in calls:
        turns.add(call, NORMAL, 0.0)
    turns.leave(calls[0])
    turns.leave(calls[0])
    assert turns.next() is calls[1]
    assert not turns


def test_an_urgent_call_waits_for_none_that_is_less_urgent() -> None:
    admission = Admission(Capacity(calls=100, wait_s=3.5), lanes=2)
    admission.begin(4.0, 0, 0.0, LAST)
    assert [admission.wait_of(each) for each in (FIRST, LAST)] == [0.0, 0.0]
    admission.begin(4.0, 0, 0.0, LAST)
    assert (admission.wait_s, admission.wait_of(LAST)) == (2.0, 4.0), "one of the two workers has to finish"
    assert admission.refusal(1.0, 0, None, 0.0, LAST) is Reason.OVERLOADED
    assert admission.refusal(1.0, 0, None, 0.0, NORMAL) is None
    admission.begin(6.0, 0, 0.0, NORMAL)
    assert [admission.wait_of(each) for each in (FIRST, NORMAL, LAST)] == [14 / 3 / 2, 3.0, 7.0]
    admission.end(4.0, 0, LAST)
    assert admission.wait_of(LAST) == 5.0
