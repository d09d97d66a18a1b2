import subprocess
import sys
import threading

from headrace_runtime.kafka.watchdog import HUNG_EXIT_CODE, HangWatch, Watchdog


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def look_for(watchdog: Watchdog[str], clock: Clock, seconds: int, state: object) -> list[str]:
    found: list[str] = []
    for _ in range(seconds):
        clock.now += 1
        found = watchdog.look({"a": state})
    return found


def test_what_stands_still_too_long_is_found() -> None:
    clock = Clock()
    watchdog: Watchdog[str] = Watchdog(60, clock=clock)
    assert look_for(watchdog, clock, 60, 7) == []
    assert look_for(watchdog, clock, 1, 7) == ["a"]


def test_any_move_begins_anew() -> None:
    clock = Clock()
    watchdog: Watchdog[str] = Watchdog(60, clock=clock)
    for position in range(5):
        assert look_for(watchdog, clock, 60, position) == []


def test_what_need_not_move_is_forgotten() -> None:
    clock = Clock()
    watchdog: Watchdog[str] = Watchdog(60, clock=clock)
    look_for(watchdog, clock, 60, 7)
    watchdog.look({})
    assert look_for(watchdog, clock, 60, 7) == []
    watchdog.forget()
    assert look_for(watchdog, clock, 60, 7) == []


def test_only_the_subject_that_stands_still_is_told() -> None:
    clock = Clock()
    watchdog: Watchdog[str] = Watchdog(10, clock=clock)
    found: list[str] = []
    for position in range(20):
        clock.now += 1
        found = watchdog.look({"moves": position, "stands": 3})
    assert found == ["stands"]


def test_a_suspended_process_has_not_stood_still() -> None:
    clock = Clock()
    watchdog: Watchdog[str] = Watchdog(60, clock=clock)
    look_for(watchdog, clock, 10, 7)
    clock.now += 3_600
    assert watchdog.look({"a": 7}) == []


def test_a_hung_thread_ends_the_process_and_shows_where_it_hangs() -> None:
    program = """
import threading
from headrace_runtime.kafka.watchdog import HUNG_EXIT_CODE, HangWatch, LONGEST_STEP_S, Watchdog

def hang_here():
    threading.Event().wait()

with HangWatch("loop", 0.4) as watch:
    watch.beat()
    hang_here()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == HUNG_EXIT_CODE
    assert "hang_here" in done.stderr


def test_one_thread_checks_all_watches_and_ends_with_the_last() -> None:
    def checking() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "hang watch"]

    with HangWatch("one", 60.0), HangWatch("other", 60.0):
        assert len(checking()) == 1
    for thread in checking():
        thread.join(60.0)
    assert checking() == []
