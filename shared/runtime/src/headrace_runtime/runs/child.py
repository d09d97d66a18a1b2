"""The child's side of a run: one process, started by a worker, that does one assignment and ends.

The protocol between the worker and its child:

* The only argument is the path of a JSON file, the assignment. These keys are always there: ``run_id``, ``attempt``
  (from 1), ``store_url`` and ``output`` (the prefix of the attempt's own files, ``runs/<run_id>/attempt-<n>/``). The
  rest belongs to the work, which is told the path of the file too, as ``file``.
* Without an argument the child waits: it imports what the work needs, at a low priority, and takes lines of standard
  input, ``{"assignment": path, "environment": {...}}``, the variables being those of the trace. A fork of its own does
  each assignment, as any other child would: no process works twice. The child that waits writes ``{"ended": code}``
  behind the fork's last line, and waits for the next one (see `runs.fork_server`).
* Standard input is the lease: the child ends at once when it closes, whoever closed it, also while it waits. Files are
  written by renaming, so every moment is a good one to end.
* Standard output carries JSON lines, ``{"step": ..., "steps": ..., "metrics": {...}, "eta_s": ...}``, and at most one
  ``{"error": reason}``, the run's last. Whatever libraries print goes to standard error.
* The result is written to the run's folder in the object store (see `runs.folder`), last of all.
* The child, and whatever it starts, runs at a low priority: those who hold its lease go first.
* The exit code is 0 with a result, `REFUSED` when the work can never succeed (a person must change something),
  `ABANDONED` when standard input closed, and anything else when the work may succeed another time.
"""

import json
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from opentelemetry import context as otel_context

from headrace_runtime.errors import Unprocessable
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.process.pipes import STANDARD_INPUT, claim_standard_output
from headrace_runtime.runs.folder import RunFolder
from headrace_runtime.runs.fork_server import serve
from headrace_runtime.telemetry.hold import hold_child
from headrace_runtime.telemetry.logs import configure_logging
from headrace_runtime.telemetry.traces import extract

DONE = 0
"""Exit code of a child that wrote its result."""
FAILED = 1
"""Exit code of a child that met a fault which another attempt may not meet."""
REFUSED = 64
"""Exit code of a child whose work can never succeed: the reason is in its last line."""
ABANDONED = 75
"""Exit code of a child whose standard input closed before it was done."""

NICENESS = 5
"""By how much the priority of a child lies below its worker's: all of an idle core, a third of an equal share of a
busy one. With less a run would stand still beside whatever else the machine does."""

_ALWAYS = {"run_id": str, "attempt": int, "store_url": str, "output": str}

logger = logging.getLogger(__name__)

Assignment = dict[str, Any]
"""What a child has to do: JSON values by name."""


class WorkRefused(Unprocessable):
    """The work can never succeed as it was asked for; the message tells a person what to change."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: one line of the child's standard output."""

    step: int
    """Steps done: epochs of a training run, variants of a compression run."""
    steps: int
    """Steps planned."""
    metrics: Mapping[str, float]
    """Latest measurements by name. Finite numbers only."""
    eta_s: float
    """Expected time to the end, in seconds."""


@dataclass(frozen=True)
class Failure:
    """Why a run gave no result: the last line of the child's standard output."""

    reason: str
    """For a person. Never empty."""


@dataclass(frozen=True)
class Ended:
    """A run of a child that waits is over, and the child waits for the next one."""

    code: int
    """The exit code of the process that did it; negative for the signal that ended it."""


class Reporter:
    """Tells the worker how far the run is."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        """Report that `step` of `steps` are done, with `eta_s` seconds to go.

        Metrics that are no finite number are left out.
        """
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self._write(asdict(Progress(step, steps, finite, float(eta_s))))
        hold_child(step)

    def fail(self, reason: str) -> None:
        """Report why the run ends without a result. `run_child` does this; the work raises instead."""
        self._write({"error": reason})

    def _write(self, line: Mapping[str, object]) -> None:
        self._lines.write(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n")
        self._lines.flush()


Work = Callable[[Assignment, Reporter], dict[str, Any]]
"""What a child does: takes an assignment, reports its steps, returns a result."""


def parse_line(line: str | bytes) -> Progress | Failure | Ended:
    """Read one line that a child wrote: the worker's side. Raise ValueError when it is none."""
    values = json.loads(line)
    keys = values.keys() if isinstance(values, dict) else set()
    if keys == {"error"}:
        # Half of a surrogate pair is text to JSON, and none to a fact.
        return Failure(str(values["error"]).encode(errors="replace").decode())
    if keys == {"ended"} and isinstance(values["ended"], int):
        return Ended(values["ended"])
    if keys != Progress.__dataclass_fields__.keys() or not _is_progress(**values):
        raise ValueError(
            f"line of a run: expected an object of step, steps, metrics and eta_s, or of error, got {values!r:.200}"
        )
    return Progress(**values)


def _is_progress(step: object, steps: object, metrics: object, eta_s: object) -> bool:
    counts = (step, steps)
    if not all(isinstance(count, int) and 0 <= count < 2**32 for count in counts) or not isinstance(metrics, dict):
        return False
    return all(isinstance(number, int | float) for number in (eta_s, *metrics.values()))


def run_child(work: Work, imports: Sequence[str] = ()) -> int:
    """Do the assignment that the command line or the worker names, and return the exit code.

    `work` gets the assignment and a reporter, and returns the result as JSON values; ``run_id`` and ``attempt`` are
    added to it. It raises `WorkRefused`, or another `Unprocessable`, when the work can never succeed. `imports` are
    modules that `work` imports itself when it is called; a child that waits imports them before.
    """
    os.nice(NICENESS)
    configure_logging(os.environ.get("HEADRACE_LOG_LEVEL", "INFO"))
    # Who interrupts the worker interrupts the whole group: the worker decides what becomes of its child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines = claim_standard_output()
    match sys.argv[1:]:
        case []:
            serve(imports, lines, lambda path: _do(work, path, lines))
            return ABANDONED
        case [path]:
            return _do(work, Path(path), lines)
        case more:
            raise SystemExit(f"command line: expected at most one path, of the assignment, got {len(more)} arguments")


def _do(work: Work, path: Path, lines: TextIO) -> int:
    """Do one assignment, and return the exit code."""
    threading.Thread(target=_watch_standard_input, name="lease", daemon=True).start()
    reporter = Reporter(lines)
    try:
        # The worker's span, so that the child's log lines carry its trace.
        otel_context.attach(extract((name.lower(), value) for name, value in os.environ.items()))
        assignment = _read_assignment(path)
        result = work(assignment, reporter)
        _write_result(assignment, result)
    except Unprocessable as refusal:
        reporter.fail(str(refusal))
        return REFUSED
    except Exception as fault:
        # The last stop of the process: the trace is for the log, the reason for the worker.
        logger.exception("the run met a fault")
        reporter.fail(f"{type(fault).__name__}: {fault}")
        return FAILED
    return DONE


def _read_assignment(path: Path) -> Assignment:
    assignment = json.loads(path.read_bytes())
    if not isinstance(assignment, dict):
        raise TypeError(f"assignment: expected a JSON object, got {type(assignment).__name__}")
    for name, kind in _ALWAYS.items():
        if not isinstance(assignment.get(name), kind):
            raise TypeError(f"assignment: {name}: expected {kind.__name__}, got {assignment.get(name)!r}")
    return {**assignment, "file": str(path)}


def _write_result(assignment: Assignment, result: dict[str, Any]) -> None:
    folder = RunFolder(ObjectStore(assignment["store_url"]), assignment["run_id"])
    folder.write_result({**result, "run_id": assignment["run_id"], "attempt": assignment["attempt"]})


def _watch_standard_input() -> None:
    # os.read and os._exit pass by Python's buffers and locks: training code may hold the interpreter's own at any time.
    while os.read(STANDARD_INPUT, 4096):
        pass
    os._exit(ABANDONED)
