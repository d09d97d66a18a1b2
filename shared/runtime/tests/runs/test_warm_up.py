"""A child that waits: it imports meanwhile, forks for each assignment, and leaves nobody's orphan."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import ABANDONED, DONE, FAILED, Progress
from headrace_runtime.runs.child_process import ChildProcess, Standby
from headrace_runtime.runs.folder import RunFolder, output_prefix
from headrace_runtime.runs.warm_up import WarmUp
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_trace_id

_WORK = """
import os, sys, threading
from headrace_runtime.runs.child import run_child

def work(assignment, reporter):
    import heavy
    if "waits" in assignment:
        reporter.progress(os.getpid(), os.getpid(), {}, 0.0)
        threading.Event().wait()
    niceness = {"own": os.getpriority(os.PRIO_PROCESS, 0), "threads_niceness": heavy.NICENESS}
    reporter.progress(1, 1, {"imported_before": heavy.BEFORE_WORK, **niceness}, 0.0)
    return {"trace": os.environ.get("TRACEPARENT", ""), "process": os.getpid()}

if __name__ == "__main__":
    raise SystemExit(run_child(work, imports=("heavy",)))
"""
_HEAVY = """
import os, sys, threading
from pathlib import Path

BEFORE_WORK = threading.current_thread() is not threading.main_thread()
NICENESS = os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) if sys.platform == "linux" else 10
with Path(os.environ["IMPORTED"]).open("a") as file:
    print("imported", file=file)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "waiting_work.py").write_text(_WORK)
    (tmp_path / "heavy.py").write_text(_HEAVY)
    return {"PYTHONPATH": str(tmp_path), "IMPORTED": str(tmp_path / "imported")}


@pytest.fixture
def assignment(tmp_path: Path) -> Path:
    path = tmp_path / "assignment.json"
    values = {"run_id": "run-1", "attempt": 1, "store_url": str(tmp_path / "store")}
    path.write_text(json.dumps(values | {"output": output_prefix("run-1", 1)}))
    return path


@pytest.fixture
def standby(environment: dict[str, str]) -> Iterator[Standby]:
    with closing(Standby(lambda path: ChildProcess("waiting_work", path, "test", environment))) as standby:
        yield standby


def _wait(child: ChildProcess) -> list[Progress]:
    assert child.code in (DONE, FAILED)
    child.stop()
    return list(child.lines())


def _wait_in_work(standby: Standby, assignment: Path) -> tuple[ChildProcess, int]:
    """Let a child that waits take a run that has no end, and return it with the process that does the run."""
    standby.prepare()
    told = assignment.read_text()
    assignment.write_text(json.dumps(json.loads(told) | {"waits": True}))
    child = standby.take(assignment)
    line = child._lines.get(timeout=60)
    assignment.write_text(told)
    return child, line.step


def _result(folder: Path) -> dict[str, Any]:
    result = RunFolder(ObjectStore(str(folder / "store")), "run-1").result()
    assert result is not None
    return result


def _until_imported(environment: dict[str, str]) -> None:
    imported = Path(environment["IMPORTED"])
    poll = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)"
    subprocess.run([sys.executable, "-c", poll, str(imported)], check=True, timeout=60)


def test_a_waiting_child_has_imported_what_the_run_needs(
    environment: dict[str, str], standby: Standby, assignment: Path, tmp_path: Path
) -> None:
    standby.prepare()
    _until_imported(environment)

    child = standby.take(assignment)

    assert [line.metrics["imported_before"] for line in _wait(child)] == [1.0]
    assert child.code == DONE
    result = _result(tmp_path)
    assert result["attempt"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux only")
def test_imports_ahead_of_a_run_stand_back(environment: dict[str, str], standby: Standby, assignment: Path) -> None:
    standby.prepare()
    _until_imported(environment)

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    (line,) = _wait(standby.take(assignment))
    assert (line.metrics["own"] - usual, line.metrics["threads_niceness"] - usual) == (5, 10)


def test_the_thread_that_imported_stays_as_its_end_may_take_a_lock(tmp_path: Path, monkeypatch: Any) -> None:
    """Once Python has joined a thread, libraries clean up behind it: MKL's lock is then held in a fork for ever."""
    (tmp_path / "who_imports.py").write_text("import threading\nTHREAD = threading.current_thread()\n")
    monkeypatch.syspath_prepend(tmp_path)
    warm_up = WarmUp(["who_imports", "no_such_module"])
    warm_up.start()
    warm_up.finish()
    assert sys.modules.pop("who_imports").THREAD.is_alive()


def test_no_process_works_twice_and_one_imports(
    environment: dict[str, str], standby: Standby, assignment: Path, tmp_path: Path
) -> None:
    # Nobody waits yet: a run begins all the same.
    assert len(_wait(standby.take(assignment))) == 1
    processes = {_result(tmp_path)["process"]}
    for _ in range(3):
        standby.prepare()
        assert len(_wait(standby.take(assignment))) == 1
        processes.add(_result(tmp_path)["process"])

    assert len(processes) == 4
    assert Path(environment["IMPORTED"]).read_text().split() == ["imported"] * 2


def test_a_run_that_is_killed_leaves_the_child_that_waits(assignment: Path, standby: Standby) -> None:
    child, process = _wait_in_work(standby, assignment)
    os.kill(process, signal.SIGKILL)

    assert child.code == -signal.SIGKILL
    child.stop()
    assert "-9" in child.reason
    standby.give_back(child)
    assert len(_wait(standby.take(assignment))) == 1
    assert standby._waiting is child


@pytest.mark.parametrize("how", ["it is stopped", "it is killed"])
def test_a_run_ends_with_the_child_that_forked_it(assignment: Path, standby: Standby, how: str) -> None:
    child, _ = _wait_in_work(standby, assignment)
    if how == "it is killed":
        child._process.kill()
    child.stop()

    assert child.ended
    # Both write to one pipe, which is at its end once both are gone: then nobody reads it any more.
    assert not child._reader.is_alive()
    standby.give_back(child)
    standby.prepare()
    assert standby._waiting is not child
    assert len(_wait(standby.take(assignment))) == 1


def test_a_child_that_died_while_it_waited_is_replaced(environment: dict[str, str], assignment: Path) -> None:
    started: list[Path | None] = []

    def start(path: Path | None) -> ChildProcess:
        started.append(path)
        # The first one knows no module of this name, and dies.
        return ChildProcess("waiting_work" if path else "no_such_module", path, "test", environment)

    standby = Standby(start)
    standby.prepare()
    assert standby._waiting is not None
    assert standby._waiting.code != DONE
    standby.prepare()

    assert len(_wait(standby.take(assignment))) == 1
    assert started == [None, assignment]


def test_a_waiting_child_ends_with_its_lease(environment: dict[str, str]) -> None:
    child = ChildProcess("waiting_work", None, "test", environment)
    _until_imported(environment)

    child.stop()

    assert child.code == ABANDONED


def test_what_was_handed_over_wrongly_is_a_fault(environment: dict[str, str], tmp_path: Path) -> None:
    child = ChildProcess("waiting_work", None, "test", environment)

    assert child.hand_over(tmp_path / "nothing.json")

    assert child.code == FAILED
    assert "nothing.json" in child.reason
    child.end()


def test_a_waiting_child_takes_the_trace_of_its_run(
    environment: dict[str, str], assignment: Path, tmp_path: Path
) -> None:
    provider = TracerProvider()
    child = ChildProcess("waiting_work", None, "test", environment)

    with provider.get_tracer("test").start_as_current_span("run") as span:
        assert child.hand_over(assignment)
    assert len(_wait(child)) == 1
    child.end()

    result = _result(tmp_path)
    assert result["trace"].split("-")[1] == format_trace_id(span.get_span_context().trace_id)
