from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from headrace_inference.core.worth import Worth
from headrace_inference.transport.recent import KEPT_S, LARGEST_BYTES, RecentAnswers

CALL: Any = SimpleNamespace(model="digits", version="", id="7")
ANSWER: Any = SimpleNamespace(version=SimpleNamespace(prefix=b"prefix"), rows=1, asked_outputs=("label",))


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_equal_bytes_have_their_answer_for_a_while(clock: Clock) -> None:
    recent = RecentAnswers(10_000, clock)
    assert recent.find(b"request") is None
    recent.keep(b"request", CALL, ANSWER, b"part", 0)
    found = recent.find(b"request")
    assert found is not None
    assert (found.part, found.id, found.asked) == (b"part", "7", ("digits", ""))
    assert recent.find(b"requesT") is None
    clock.now_s += KEPT_S
    assert recent.find(b"request") is None


def test_an_answer_is_kept_no_longer_than_its_release_says(clock: Clock) -> None:
    recent = RecentAnswers(10_000, clock)
    recent.keep(b"request", CALL, ANSWER, b"part", 1)
    clock.now_s += 1
    assert recent.find(b"request") is None


def test_the_oldest_go_when_there_is_no_room(clock: Clock) -> None:
    recent = RecentAnswers(3000, clock)
    for number in range(5):
        recent.keep(b"%d" % number, CALL, ANSWER, bytes(400), 0)
    assert [recent.find(b"%d" % number) is not None for number in range(5)] == [False, False, True, True, True]
    recent.keep(b"large", CALL, ANSWER, bytes(LARGEST_BYTES), 0)
    assert recent.find(b"large") is None
    assert recent.find(b"4") is not None


def test_without_room_nothing_is_kept(clock: Clock) -> None:
    recent = RecentAnswers(0, clock)
    recent.keep(b"request", CALL, ANSWER, b"part", 0)
    assert recent.find(b"request") is None


def test_a_hit_pays_where_it_costs_less_than_half_of_the_model() -> None:
    assert Worth(0.001).pays
    assert not Worth(0.0001).pays
    assert not Worth(0.0).pays


def test_measurements_turn_the_decision_and_noise_does_not() -> None:
    worth = Worth(0.001)
    assert worth.learn(0.0006, 0.001), "the first measurement is told"
    assert not worth.pays
    assert [worth.learn(share * 0.001, 0.001) for share in (0.55, 0.45, 0.41)] == [False] * 3
    assert worth.learn(0.00039, 0.001)
    assert worth.pays
    assert not worth.learn(0.00059, 0.001)
    assert worth.learn(0.00039, 0.0006), "the model got quicker"
    assert not worth.pays
    assert str(worth) == "a hit takes 0.390 ms of CPU, the model 0.600 ms"
