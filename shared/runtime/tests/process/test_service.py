import signal
import subprocess
import sys
import threading

import pytest
from headrace_runtime.process.service import Background, Service


class Part:
    def __init__(self, name: str, log: list[str], *, broken: bool = False) -> None:
        self.name, self._log, self._broken = name, log, broken

    def start(self) -> None:
        if self._broken:
            raise RuntimeError(f"{self.name} cannot start")
        self._log.append(f"start {self.name}")

    def stop(self) -> None:
        self._log.append(f"stop {self.name}")


class Failing(Background):
    def __init__(self) -> None:
        super().__init__("failing")
        self.may_fail = threading.Event()

    def run(self) -> None:
        self.may_fail.wait(10)
        raise RuntimeError("the broker is gone")


def test_parts_start_in_order_and_stop_in_reverse() -> None:
    log: list[str] = []
    service = Service("test", [Part("a", log), Part("b", log)])
    service.end()
    assert service.run() == 0
    assert log == ["start a", "start b", "stop b", "stop a"]


def test_what_started_is_stopped_when_another_part_cannot_start() -> None:
    log: list[str] = []
    service = Service("test", [Part("a", log), Part("b", log, broken=True)])
    with pytest.raises(RuntimeError, match="b cannot start"):
        service.run()
    assert log == ["start a", "stop a"]


def test_an_error_in_the_background_ends_the_service_with_1() -> None:
    failing = Failing()
    service = Service("test", [failing])
    failing.may_fail.set()
    assert service.run() == 1


def test_a_part_that_does_not_stop_is_told_and_left(caplog: pytest.LogCaptureFixture) -> None:
    failing = Failing()
    failing.start()
    failing.stop_timeout_s = 0.0
    failing.stop()
    failing.may_fail.set()
    assert [record.message for record in caplog.records] == ["failing did not stop within 0 s"]


@pytest.mark.slow
def test_a_signal_ends_the_service_in_whichever_moment_it_comes() -> None:
    # In a process of its own, so that a signal that is missed ends in a failure and not in a test that hangs.
    subprocess.run([sys.executable, "-c", ENDED_OFTEN], check=True, timeout=60)


ENDED_OFTEN = """
import signal
from headrace_runtime.process.service import Service, ending_on_signals

for place in range(5000):
    service = Service("test", [])
    with ending_on_signals(service, signal.SIGALRM):
        signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + place % 100))
        assert service.run() == 0
"""


def test_a_service_that_is_stopped_before_it_runs_goes_at_once() -> None:
    process = subprocess.Popen([sys.executable, "-c", NEVER_BUILT], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == "building\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


NEVER_BUILT = """
import os, threading
from headrace_runtime.process.service import main
from headrace_runtime.settings import ServiceSettings

def build(settings):
    print("building", flush=True)
    while True:
        try:
            threading.Event().wait()
        except BaseException:  # as in kafka-python while it connects
            print("went on", flush=True)

os.environ["HEADRACE_METRICS_ADDRESS"] = ""
raise SystemExit(main("test", ServiceSettings, build))
"""
