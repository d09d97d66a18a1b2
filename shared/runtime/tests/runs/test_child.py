"""The child's protocol, spoken by real processes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from headrace.events.v1 import run_pb2
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import ABANDONED, DONE, FAILED, REFUSED, Ended, Failure, Progress, parse_line
from headrace_runtime.runs.folder import RunFolder, output_prefix, result_name

_WORK = """
import os, sys, threading
from headrace_runtime.runs.child import WorkRefused, run_child

def work(assignment, reporter):
    print("a library greets")
    os.write(1, b"and so does its native code\\n")
    reporter.progress(1, 2, {"loss": 0.5, "broken": float("nan")}, 1.5)
    match assignment["task"]:
        case "succeed":
            return {"answer": assignment["task"]}
        case "refuse":
            raise WorkRefused("network.kind: expected mlp or cnn, got transformer")
        case "break":
            raise OSError("the disk is full")
        case "overflow":
            return {"loss": float("inf")}
        case "wait":
            threading.Event().wait()

raise SystemExit(run_child(work))
"""


@pytest.fixture
def assignment(tmp_path: Path) -> dict[str, object]:
    return {
        "run_id": "run-1",
        "attempt": 3,
        "store_url": str(tmp_path / "store"),
        "output": output_prefix("run-1", 3),
        "task": "succeed",
    }


def _start(folder: Path, assignment: object) -> "subprocess.Popen[bytes]":
    program, file = folder / "program.py", folder / "assignment.json"
    program.write_text(_WORK)
    file.write_text(json.dumps(assignment))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, str(program), str(file)], **pipes)  # type: ignore[call-overload]


def _finish(child: "subprocess.Popen[bytes]") -> tuple[int, list[Progress | Failure | Ended], bytes]:
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        # The child's standard input stays open until it ended: closing it would abandon the run.
        lines = [parse_line(line) for line in child.stdout]
        log = child.stderr.read()
        return child.wait(timeout=30), lines, log


def test_a_result_is_written_and_every_line_is_the_childs_own(tmp_path: Path, assignment: dict[str, object]) -> None:
    code, lines, log = _finish(_start(tmp_path, assignment))

    assert code == DONE, log.decode()
    assert lines == [Progress(1, 2, {"loss": 0.5}, 1.5)]
    assert b"a library greets" in log
    assert b"and so does its native code" in log
    result = RunFolder(ObjectStore(str(assignment["store_url"])), "run-1").result()
    assert result == {"answer": "succeed", "attempt": 3, "run_id": "run-1"}


def test_refused_work_says_why_and_leaves_no_result(tmp_path: Path, assignment: dict[str, object]) -> None:
    code, lines, _ = _finish(_start(tmp_path, assignment | {"task": "refuse"}))

    assert code == REFUSED
    assert lines[-1] == Failure("network.kind: expected mlp or cnn, got transformer")
    assert ObjectStore(str(assignment["store_url"])).read(result_name("run-1")) is None


def test_a_fault_is_told_apart_from_a_refusal(tmp_path: Path, assignment: dict[str, object]) -> None:
    code, lines, log = _finish(_start(tmp_path, assignment | {"task": "break"}))

    assert code == FAILED
    assert lines[-1] == Failure("OSError: the disk is full")
    assert b"Traceback" in log


def test_a_result_that_is_no_json_is_a_fault(tmp_path: Path, assignment: dict[str, object]) -> None:
    code, lines, _ = _finish(_start(tmp_path, assignment | {"task": "overflow"}))

    assert code == FAILED
    assert isinstance(lines[-1], Failure)
    assert ObjectStore(str(assignment["store_url"])).read(result_name("run-1")) is None


def test_the_child_ends_when_its_standard_input_closes(tmp_path: Path, assignment: dict[str, object]) -> None:
    child = _start(tmp_path, assignment | {"task": "wait"})
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        assert parse_line(child.stdout.readline()) == Progress(1, 2, {"loss": 0.5}, 1.5)
        child.stdin.close()
        assert child.wait(timeout=30) == ABANDONED
    assert ObjectStore(str(assignment["store_url"])).read(result_name("run-1")) is None


_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE)
child.wait()
"""


def test_an_orphan_ends_when_its_parent_is_killed(tmp_path: Path, assignment: dict[str, object]) -> None:
    program, file = tmp_path / "program.py", tmp_path / "assignment.json"
    program.write_text(_WORK)
    file.write_text(json.dumps(assignment | {"task": "wait"}))
    command = [sys.executable, "-c", _PARENT, str(program), str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parse_line(parent.stdout.readline()) == Progress(1, 2, {"loss": 0.5}, 1.5)
        parent.kill()
        # The child writes to the same pipe: it is at its end only once both are gone.
        assert parent.stdout.read() == b""
    assert parent.returncode == -signal.SIGKILL
    assert ObjectStore(str(assignment["store_url"])).read(result_name("run-1")) is None


@pytest.mark.parametrize("name", ["run_id", "attempt", "store_url", "output"])
def test_an_assignment_without_a_key_is_a_fault_that_names_it(
    tmp_path: Path, assignment: dict[str, object], name: str
) -> None:
    del assignment[name]

    code, lines, _ = _finish(_start(tmp_path, assignment))

    assert code == FAILED
    assert isinstance(lines[-1], Failure)
    assert name in lines[-1].reason


@pytest.mark.parametrize(
    "line",
    [
        *(b"[]", b"hello", b"{}", b'{"step": 1}', b"\xff"),
        b'{"step": -1, "steps": 2, "metrics": {}, "eta_s": 0}',
        b'{"step": 1, "steps": 4294967296, "metrics": {}, "eta_s": 0}',
        b'{"step": "1", "steps": 2, "metrics": {}, "eta_s": 0}',
        b'{"step": 1, "steps": 2, "metrics": [], "eta_s": 0}',
        b'{"step": 1, "steps": 2, "metrics": {"loss": "low"}, "eta_s": 0}',
        b'{"step": 1, "steps": 2, "metrics": {}, "eta_s": null}',
    ],
)
def test_a_line_of_another_kind_is_not_read(line: bytes) -> None:
    with pytest.raises(ValueError):
        parse_line(line)


def test_a_reason_is_text_that_a_fact_can_hold() -> None:
    failure = parse_line(b'{"error": "half a pair: \\ud800"}')
    assert isinstance(failure, Failure)
    assert run_pb2.RunFailed(reason=failure.reason).reason == "half a pair: ?"
