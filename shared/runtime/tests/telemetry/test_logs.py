"""What reaches a log when somebody tries to fill it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from headrace_runtime.telemetry.logs import BURST, LEFT_OUT, PAUSE_S, JsonFormatter, Sparing

logger = logging.getLogger("headrace.test.logs")


class Log:
    """A log of its own, and the clock that it goes by."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)
        self.handler.setFormatter(JsonFormatter())
        self.handler.addFilter(Sparing(lambda: self.now_s))

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    log = Log()
    logger.addHandler(log.handler)
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.INFO)
    yield log
    logger.removeHandler(log.handler)


def fail(number: int) -> None:
    logger.error("call %s failed", number, exc_info=ValueError(number))


def test_the_same_error_over_and_over_is_written_ever_more_rarely(log: Log) -> None:
    before = LEFT_OUT.labels(logger.name)._value.get()
    for number in range(10_000):
        fail(number)
    assert len(log.lines()) == BURST
    assert LEFT_OUT.labels(logger.name)._value.get() - before == 10_000 - BURST
    log.now_s = PAUSE_S
    fail(10_000)
    fail(10_001)
    assert len(log.lines()) == BURST + 1
    assert (log.lines()[-1]["message"], log.lines()[-1]["left_out"]) == ("call 10000 failed", 10_000 - BURST)
    log.now_s = 1e6
    for number in range(100):
        fail(number)
    assert len(log.lines()) == 2 * BURST + 1


def test_other_places_and_news_of_work_are_written_meanwhile(log: Log) -> None:
    for number in range(100):
        fail(number)
        logger.info("recorded %s", number)
    logger.warning("something else")
    messages = [line["message"] for line in log.lines()]
    assert messages.count("something else") == 1
    assert sum(str(message).startswith("recorded") for message in messages) == 100
    assert "left_out" not in log.lines()[-1]
