"""A child that waits: it imports meanwhile, takes one assignment, and is nobody's orphan."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import ABANDONED, DONE, FAILED, Progress
from headrace_runtime.runs.child_process import ChildProcess, Standby
from headrace_runtime.runs.folder import RunFolder, output_prefix
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_trace_id

_WORK = """
import os, sys
from headrace_runtime.runs.child import run_child

def work(assignment, reporter):
    import heavy
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
Path(os.environ["IMPORTED"]).touch()
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


def _wait(child: ChildProcess) -> list[Progress]:
    assert child.code in (DONE, FAILED)
    child.stop()
    return list(child.lines())


def _result(folder: Path) -> dict[str, Any]:
    result = RunFolder(ObjectStore(str(folder / "store")), "run-1").result()
    assert result is not None
    return result


def _until_imported(environment: dict[str, str]) -> None:
    imported = Path(environment["IMPORTED"])
    poll = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)"
    subprocess.run([sys.executable, "-c", poll, str(imported)], check=True, timeout=60)


def test_a_waiting_child_has_imported_what_the_run_needs(
    environment: dict[str, str], assignment: Path, tmp_path: Path
) -> None:
    standby = Standby(lambda path: ChildProcess("waiting_work", path, "test", environment))
    standby.prepare()
    _until_imported(environment)

    child = standby.take(assignment)

    assert [line.metrics["imported_before"] for line in _wait(child)] == [1.0]
    assert child.code == DONE
    result = _result(tmp_path)
    assert result["attempt"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux only")
def test_imports_ahead_of_a_run_stand_back(environment: dict[str, str], assignment: Path) -> None:
    standby = Standby(lambda path: ChildProcess("waiting_work", path, "test", environment))
    standby.prepare()
    _until_imported(environment)

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    (line,) = _wait(standby.take(assignment))
    assert (line.metrics["own"] - usual, line.metrics["threads_niceness"] - usual) == (5, 10)


def test_no_child_works_twice(environment: dict[str, str], assignment: Path, tmp_path: Path) -> None:
    standby = Standby(lambda path: ChildProcess("waiting_work", path, "test", environment))
    processes = set()
    for _ in range(2):
        standby.prepare()
        assert len(_wait(standby.take(assignment))) == 1
        result = _result(tmp_path)
        processes.add(result["process"])
    # Nobody waits: a run begins all the same.
    assert len(_wait(standby.take(assignment))) == 1

    assert len(processes) == 2


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
    child.stop()
    assert "nothing.json" in child.reason


def test_a_waiting_child_takes_the_trace_of_its_run(
    environment: dict[str, str], assignment: Path, tmp_path: Path
) -> None:
    provider = TracerProvider()
    child = ChildProcess("waiting_work", None, "test", environment)

    with provider.get_tracer("test").start_as_current_span("run") as span:
        assert child.hand_over(assignment)
    assert len(_wait(child)) == 1

    result = _result(tmp_path)
    assert result["trace"].split("-")[1] == format_trace_id(span.get_span_context().trace_id)
