from __future__ import annotations

import random
from collections import deque

import pytest
from headrace_runtime.rpc.admission import Admission, Capacity, Intake, Reason, Unfinished
from hypothesis import given, settings
from hypothesis import strategies as st

ROOMY = Capacity(calls=10_000, wait_s=60.0)
LIST = (128, 256)
"""Calls in the list before the queue, from which and at which it cancels."""
TAKING_S, REFUSING_S = 0.02, 0.1
"""What it costs to take a call, and to refuse one, as shares of what it costs to answer one."""


def test_who_need_not_wait_is_admitted_whatever_was_learnt() -> None:
    admission = Admission(ROOMY)
    admission.begin(1, 0, 0.0)
    for _ in range(200):
        admission.learn(1, 1e9)
    assert admission.refusal(1, 0, 60.0, 0.0) is Reason.OVERLOADED
    admission.end(1, 0)
    assert admission.refusal(1, 0, 0.001, 0.0) is None
    assert admission.refusal(1, 0, 0.0, 0.0) is Reason.LATE
    assert admission.refusal(1, 0, None, 0.0) is None


def test_one_long_wait_says_little_about_the_pace() -> None:
    admission = Admission(ROOMY, pace_s=0.001)
    admission.learn(1, 60.0)
    assert admission.pace_s < 0.002
    for _ in range(100):
        admission.learn(1, 0.05)
    assert admission.pace_s > 0.03


def test_calls_wait_as_long_as_their_deadlines_allow() -> None:
    admission = Admission(ROOMY, pace_s=0.01)
    for _ in range(100):
        admission.begin(1, 0, 0.0)
    assert admission.wait_s == pytest.approx(1.0)
    assert admission.refusal(1, 0, 2.5, 0.1) is None
    assert admission.refusal(1, 0, 1.9, 0.1) is Reason.OVERLOADED
    assert admission.refusal(1, 0, None, 0.1) is None
    # The queue has stood for as long as the call has left.
    assert admission.refusal(1, 0, 2.5, 2.6) is Reason.OVERLOADED
    assert admission.refusal(1, 0, 10.0, 2.6) is None
    for _ in range(99):
        admission.end(1, 0)
    assert admission.wait_s == pytest.approx(0.01)


@pytest.mark.parametrize("capacity", [Capacity(2, 60.0), Capacity(9, 0.015), Capacity(9, 60.0, size_bytes=20)])
def test_calls_bytes_and_time_are_bounded(capacity: Capacity) -> None:
    admission = Admission(capacity, pace_s=0.01)
    for _ in range(2):
        assert admission.refusal(1, 10, None, 0.0) is None
        admission.begin(1, 10, 0.0)
    assert admission.refusal(1, 10, None, 0.0) is Reason.OVERLOADED
    admission.end(1, 10)
    assert admission.refusal(1, 10, None, 0.0) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 1000), st.booleans()), max_size=60), st.integers(1, 4))
def test_what_begins_and_ends_leaves_nothing(calls: list[tuple[float, int, bool]], lanes: int) -> None:
    admission = Admission(ROOMY, lanes)
    waiting = []
    for work, size_bytes, ends in calls:
        admission.begin(work, size_bytes, 0.0)
        waiting.append((work, size_bytes))
        if ends:
            admission.end(*waiting.pop(0))
    for each in waiting:
        admission.end(*each)
    assert (admission.calls, admission.wait_s, admission._size_bytes) == (0, 0.0, 0)


class Thread:
    """A thread that takes calls from a list and answers one after another, in simulated time.

    The list holds what was not taken yet; of those beyond `LIST` it cancels, at no cost, as gRPC's core does.
    """

    def __init__(self, answer_s: float, offered_per_s: float, left_s: float, seconds: float, seed: int) -> None:
        self.answer_s, self.left_s, self.end_s = answer_s, left_s, seconds
        self.random = random.Random(seed)
        self.due = deque(place / offered_per_s for place in range(int(offered_per_s * seconds)))
        self.listed: deque[float] = deque()
        self.waiting: deque[float] = deque()
        self.admission = Admission(ROOMY, pace_s=answer_s * 2)
        self.intake = Intake(self.admission, 10_000)
        self.asked = 10_000
        self.now_s = 0.0
        self.good = self.good_in_time = 0
        self.last_good_s = 0.0

    def run(self) -> None:
        while self.due or self.listed or self.waiting:
            self._come()
            while self.listed and self.asked:
                self._take(self.listed.popleft())
            if self.waiting:
                self._answer(self.waiting.popleft())
            elif self.due:
                self.now_s = max(self.now_s, self.due[0])
            self.asked = max(self.asked, self.intake.room)

    def _come(self) -> None:
        least, most = LIST
        while self.due and self.due[0] <= self.now_s:
            call = self.due.popleft()
            if self.asked > len(self.listed) or self.random.random() >= (len(self.listed) - least) / (most - least):
                self.listed.append(call)

    def _take(self, call: float) -> None:
        self.asked -= 1
        self.now_s += self.answer_s * TAKING_S
        reason = self.admission.refusal(1, 0, call + self.left_s - self.now_s, self.now_s)
        self.intake.told(reason)
        if reason is None:
            self.admission.begin(1, 0, self.now_s)
            self.waiting.append(call)
        else:
            self.now_s += self.answer_s * REFUSING_S

    def _answer(self, call: float) -> None:
        began_s = self.now_s
        self.admission.end(1, 0)
        if call + self.left_s <= self.now_s:
            self.now_s += self.answer_s * REFUSING_S
            return
        self.now_s += self.answer_s * self.random.uniform(0.5, 1.5)
        self.admission.learn(1, self.now_s - began_s)
        if self.now_s <= call + self.left_s:
            self.good += 1
            self.good_in_time += self.now_s <= self.end_s


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.floats(0.0001, 0.001), st.sampled_from([1.2, 2.0, 5.0]), st.floats(0.2, 2.0), st.integers(0, 100))
def test_goodput_is_kept_under_overload(answer_s: float, times: float, left_s: float, seed: int) -> None:
    seconds = 6.0 if left_s < 1 else 10.0
    peak = seconds / answer_s
    if peak * times > 100_000:
        answer_s *= peak * times / 100_000
        peak = seconds / answer_s
    if 256 * answer_s > 0.3 * left_s:
        return  # the list before the queue alone holds more than can be done in time
    thread = Thread(answer_s, times / answer_s, left_s, seconds, seed)
    thread.run()
    assert thread.good_in_time >= 0.8 * peak
    assert thread.now_s - seconds <= STANDING * left_s, "what waits at the end is soon done"


STANDING = 0.7


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0001, 0.0005), st.integers(1, 10_000), st.integers(0, 100))
def test_a_burst_whose_deadlines_allow_it_is_answered(answer_s: float, calls: int, seed: int) -> None:
    thread = Thread(answer_s, 1e9, 30.0, (calls + 0.5) / 1e9, seed)
    assert len(thread.due) == calls
    thread.run()
    assert thread.good == calls


def test_calls_with_short_deadlines_do_not_turn_away_a_burst() -> None:
    admission = Admission(ROOMY, pace_s=0.001)
    intake = Intake(admission, 1000)
    for place in range(1000):
        left_s = 0.01 if place % 4 == 0 else 30.0
        reason = admission.refusal(1, 0, left_s, 0.0)
        intake.told(reason)
        if reason is None:
            admission.begin(1, 0, 0.0)
    assert intake.room == 1000
    assert 750 <= admission.calls < 800


def test_the_oldest_unfinished_message_goes_first_and_not_too_soon() -> None:
    unfinished: Unfinished[str] = Unfinished(2, grace_s=0.1)
    unfinished.begin("a", 1.0)
    assert (unfinished.due_s, unfinished.overdue(9.0)) == (0.0, None)
    unfinished.begin("b", 1.05)
    assert unfinished.due_s == pytest.approx(1.1)
    assert unfinished.overdue(1.05) is None
    assert unfinished.overdue(1.2) == "a"
    assert unfinished.end("a")
    assert not unfinished.end("a")
    assert unfinished.overdue(9.0) is None
