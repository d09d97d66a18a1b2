from __future__ import annotations

import pytest
from headrace_runtime.cache.redis_cache import CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures=3, pause_s=10.0, clock=clock)


def test_failures_that_are_not_in_a_row_change_nothing(breaker: CircuitBreaker) -> None:
    for _ in range(5):
        assert [breaker.failed(), breaker.failed(), breaker.succeeded()] == [False, False, False]
    assert breaker.allows()


def test_failures_in_a_row_begin_a_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    assert [breaker.failed() for _ in range(4)] == [False, False, True, False]
    assert not breaker.allows()
    clock.now += 9.9
    assert not breaker.allows()


def test_one_call_tries_after_the_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(3):
        breaker.failed()
    clock.now += 10.0
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.failed()
    clock.now += 9.9
    assert not breaker.allows()


def test_a_try_that_works_ends_the_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(3):
        breaker.failed()
    clock.now += 10.0
    assert breaker.allows()
    assert breaker.succeeded()
    assert [breaker.allows(), breaker.allows()] == [True, True]
    assert not breaker.succeeded()
