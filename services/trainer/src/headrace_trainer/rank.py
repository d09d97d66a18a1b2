"""One process of a group that trains together: `python -m headrace_trainer.rank ASSIGNMENT AGENT`.

torchrun's agent, the process of that number, has started it, and says by the environment which of the group it is. The
process ends with the agent, and with the worker, whose pipe is its standard input too. Standard output carries lines of
JSON: progress as `headrace_runtime.runs.child` has it, where it leads, and then ``{"result": {...}}``; of any of them
``{"refused": reason}`` or ``{"error": reason}``, the last.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from headrace_runtime.errors import Unprocessable
from headrace_runtime.process.lifeline import end_with_parent
from headrace_runtime.process.pipes import STANDARD_INPUT, claim_standard_output
from headrace_runtime.runs.child import ABANDONED, DONE, FAILED, REFUSED, Assignment, Reporter
from headrace_runtime.telemetry.hold import take_up
from headrace_runtime.telemetry.logs import configure_logging

logger = logging.getLogger(__name__)


class Silent:
    """Is told how far a run is, and says nothing: the process that leads does."""

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        """Do nothing."""


def main() -> int:
    """Do this process's part of the assignment, and return the exit code."""
    path, agent = sys.argv[1:]
    end_with_parent(int(agent))
    _end_with_lease()
    refuse_pickles()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging(os.environ.get("HEADRACE_LOG_LEVEL", "INFO"))
    take_up()
    lines = claim_standard_output()

    def say(line: Mapping[str, Any]) -> None:
        lines.write(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n")
        lines.flush()

    try:
        result = _work(json.loads(Path(path).read_bytes()), Reporter(lines))
    except Unprocessable as refusal:
        say({"refused": str(refusal)})
        return REFUSED
    except Exception as fault:
        # The last stop of the process: the trace is for the log, the reason for the agent.
        logger.exception("process %s of the group met a fault", os.environ.get("RANK"))
        say({"error": f"{type(fault).__name__}: {fault}"})
        return FAILED
    if result is not None:
        say({"result": result})
    return DONE


def _work(assignment: Assignment, reporter: Reporter) -> dict[str, Any] | None:
    """Train. Returns the result where this process leads."""
    # Imported late: the process has its lease from its first moment.
    from headrace_data.spec import parse_canonical
    from headrace_learning.training.compute import machine_of
    from headrace_learning.training.group import joined
    from headrace_runtime.object_store import ObjectStore

    from headrace_trainer.adapters.artifacts import StoredArtifacts
    from headrace_trainer.adapters.checkpoints import StoredCheckpoints
    from headrace_trainer.child import alone
    from headrace_trainer.transport.assignments import follow

    compute = parse_canonical(assignment["spec"].encode()).train.compute
    with joined(machine_of(compute).device):
        if os.environ["RANK"] == "0":
            return alone(assignment, reporter)
        store = ObjectStore(assignment["store_url"])
        checkpoints = StoredCheckpoints(store, assignment["run_id"], assignment["output"], assignment["checkpoint_s"])
        follow(assignment, store, checkpoints, Silent(), StoredArtifacts(store))
        return None


def refuse_pickles() -> None:
    """Let this process unpickle no object: what travels between processes of a group are numbers."""
    sys.addaudithook(_refuse)


def _refuse(event: str, _arguments: tuple[object, ...]) -> None:
    if event == "pickle.find_class":
        raise RuntimeError("expected tensors alone from other processes, got a pickle")


def _end_with_lease() -> None:
    """End this process when standard input closes, where that is the worker's pipe."""
    if stat.S_ISFIFO(os.fstat(STANDARD_INPUT).st_mode):
        threading.Thread(target=_watch, name="lease", daemon=True).start()


def _watch() -> NoReturn:
    while os.read(STANDARD_INPUT, 4096):
        pass
    os._exit(ABANDONED)


if __name__ == "__main__":
    raise SystemExit(main())
