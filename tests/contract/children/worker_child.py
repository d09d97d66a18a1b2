"""A child of a run that does as its assignment says."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from headrace_runtime.runs.child import Reporter, WorkRefused, run_child


def work(assignment: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    reporter.progress(1, 2, {"train_loss": 0.5}, 1.0)
    behaviour = assignment["behaviour"]
    if behaviour == "refuse":
        raise WorkRefused("network: expected a number of classes above 1, got 1")
    if behaviour == "crash once" and assignment["attempt"] == 1:
        raise OSError("the disk is full")
    if behaviour == "crash":
        raise OSError("the disk is full")
    if behaviour == "hang once" and assignment["attempt"] == 1:
        Path(assignment["flag"]).touch()
        threading.Event().wait(600)
    if behaviour == "hold":
        flag = Path(assignment["flag"])
        flag.touch()
        while not flag.with_suffix(".released").exists():
            time.sleep(0.02)
    if behaviour == "no result":
        os._exit(0)
    if behaviour == "no fact":
        return {"another": "thing"}
    reporter.progress(2, 2, {"train_loss": 0.1}, 0.0)
    return {"version": f"v-{assignment['run_id']}"}


if __name__ == "__main__":
    sys.exit(run_child(work))
