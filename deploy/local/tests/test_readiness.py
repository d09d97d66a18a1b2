"""How long a start is waited for: as long as it gets on, and no longer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from headrace_local import readiness
from headrace_local.errors import StartFailed
from headrace_local.readiness import MOST_WAITS, ReadinessWait

TIMEOUT_S = 10.0


class Supervisor:
    """One that runs nothing and always lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ensure_alive(self) -> None:
        pass

    def states(self) -> list[dict[str, object]]:
        return []

    def log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"


class Clock:
    """Seconds that pass while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.during: Callable[[float], None] = lambda now_s: None

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.during(self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(readiness, "time", made)
    monkeypatch.setattr(readiness, "POLL_S", 1.0)
    return made


def waited_s(clock: Clock, folder: Path) -> float:
    """Wait for a process that never becomes ready; return how long."""
    began_s = clock.now_s
    wait = ReadinessWait(Supervisor(folder), TIMEOUT_S)  # type: ignore[arg-type]
    with pytest.raises(StartFailed, match=r"slow was not ready in time .* HEADRACE_START_TIMEOUT_S\): nobody answers"):
        wait.wait([("slow", lambda: "nobody answers")], lambda name: None)
    return clock.now_s - began_s


def test_a_start_that_stands_still_is_given_up_with_the_setting_s_name(clock: Clock, tmp_path: Path) -> None:
    assert waited_s(clock, tmp_path) == pytest.approx(TIMEOUT_S, abs=2)


def test_a_start_that_gets_on_is_waited_for_and_not_for_ever(clock: Clock, tmp_path: Path) -> None:
    def write(_: float) -> None:
        with (tmp_path / "slow.log").open("a") as log:
            log.write("still loading\n")

    clock.during = write
    assert waited_s(clock, tmp_path) == pytest.approx(MOST_WAITS * TIMEOUT_S, abs=2)


def test_each_process_that_becomes_ready_gives_the_others_time(clock: Clock, tmp_path: Path) -> None:
    began_s = clock.now_s
    names = [f"p{number}" for number in range(1, 5)]
    checks = [
        (name, lambda after=0.8 * TIMEOUT_S * place: None if clock.now_s - began_s >= after else "not yet")
        for place, name in enumerate(names, start=1)
    ]
    ready: list[str] = []
    ReadinessWait(Supervisor(tmp_path), TIMEOUT_S).wait(checks, ready.append)  # type: ignore[arg-type]
    assert ready == names
