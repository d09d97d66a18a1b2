"""One of the pods in which a run trains: `python -m headrace_trainer.pod`.

The worker that holds the run's lease has made the pod, and says by the environment what is to be done; Kubernetes says
which of them this is (`JOB_COMPLETION_INDEX`). The first pod runs the child that a trainer would, and writes to the
store what it says; each other lends its processes. A pod does one attempt and ends: the worker decides what is tried
again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from headrace_runtime.errors import HeadraceError, Unavailable
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import ABANDONED, DONE, FAILED, REFUSED, Progress
from headrace_runtime.runs.child_process import ChildProcess
from headrace_runtime.runs.folder import ASSIGNMENT
from headrace_runtime.runs.relay import Ended, Telling
from headrace_runtime.settings import load_settings
from headrace_runtime.telemetry.logs import configure_logging
from pydantic import Field

from headrace_trainer.settings import Settings

logger = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
_MOMENT_S: Final = 0.1
_PATIENCE_S: Final = 300.0
"""How long a pod tries to read what is to be done, and to write how its child ended."""
_LAST_WORD_S: Final = 5.0
"""How long a pod that is told to end waits for its child's result, or refusal."""
_LOOK_FOR: Final = timedelta(seconds=10)
"""How long one look for the meeting takes."""
_BAD: Final = 2
"""Exit code of a process that was told nonsense."""


class PodSettings(Settings):
    """What a pod is told: the trainer's settings, and by the worker which attempt it is for."""

    assignment: str = Field(description="Name of what is to be done in the object store.")
    assignment_digest: str = Field(description="SHA-256 of it, as hex.")


def main() -> int:
    """Do this pod's part of the run, and return the exit code."""
    configure_logging(os.environ.get("HEADRACE_LOG_LEVEL", "INFO"))
    # The first process of a container is not ended by signals that it does not ask for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ABANDONED))
    try:
        settings, index = load_settings(PodSettings), int(os.environ.get("JOB_COMPLETION_INDEX", ""))
        store, data = ObjectStore(settings.store_url), _assignment(settings)
    except (HeadraceError, ValueError) as error:
        print(f"pod: {error}", file=sys.stderr)  # noqa: T201 - as every service tells it
        return _BAD
    with tempfile.TemporaryDirectory(prefix="headrace-pod-") as folder:
        file = Path(folder) / ASSIGNMENT
        file.write_bytes(data)
        _await_name(settings.meeting_place)
        if index == 0:
            return lead(file, store, settings.assignment.removesuffix(ASSIGNMENT))
        return lend(file, settings.meeting_place, index)


def _assignment(settings: PodSettings) -> bytes:
    """Return what is to be done. Raises ValueError where the store holds something else, and Unavailable.

    A new pod may have to wait until the network lets it out.
    """
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            data = ObjectStore(settings.store_url).read(settings.assignment) or b""
            break
        except Unavailable as error:
            if time.monotonic() > until_s:
                raise
            logger.warning("the object store does not answer yet: %s", error)
            time.sleep(_LOOK_S)
    if (found := hashlib.sha256(data).hexdigest()) != settings.assignment_digest:
        raise ValueError(f"{settings.assignment}: expected SHA-256 {settings.assignment_digest}, got {found}")
    return data


def _await_name(place: tuple[str, int]) -> None:
    """Return once the name of the first pod is known: it is published when that has started."""
    while True:
        try:
            socket.getaddrinfo(*place)
        except OSError as error:
            logger.info("%s is not known yet: %s", place[0], error)
            time.sleep(_LOOK_S)
        else:
            return


def lead(file: Path, store: ObjectStore, output: str) -> int:
    """Run the child of a run, which leads the group, and let the worker hear it. Returns the child's exit code."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    telling, child = Telling(store, output), ChildProcess("headrace_trainer.child", file, "pod", {})
    while not child.ended and not stopping.wait(_LOOK_S):
        if lines := list(child.lines()):
            _tell(telling, lines)
    was_stopped, until_s = not child.ended, time.monotonic() + _LAST_WORD_S
    while not child.ended and time.monotonic() < until_s:
        time.sleep(_MOMENT_S)
    child.stop()
    # All pods are told to end where another one's part failed, as when the work is refused. What else the child says of
    # a group that is being ended is what that did to it, and a queue may begin the group again.
    if was_stopped and child.code not in (DONE, REFUSED):
        return ABANDONED
    ended, lines = Ended(child.code, child.reason if child.code else ""), list(child.lines())
    until_s = time.monotonic() + _PATIENCE_S
    while not _tell(telling, lines, ended) and time.monotonic() < until_s and not stopping.wait(_LOOK_S):
        lines = []
    return ended.code


def _tell(telling: Telling, lines: Sequence[Progress], ended: Ended | None = None) -> bool:
    try:
        telling.tell(lines, ended)
    except Unavailable as error:
        logger.warning("what the run says is not written: %s", error)
        return False
    return True


def lend(file: Path, place: tuple[str, int], index: int) -> int:
    """Run this pod's processes of the group. Returns whether they did their part, as an exit code."""
    # Imported late: the first pod leaves PyTorch to its child.
    from headrace_trainer.adapters.agent import run_ranks
    from headrace_trainer.adapters.meeting import Meeting

    assignment = json.loads(file.read_bytes())
    group = assignment["group"]
    meeting = Meeting(assignment["run_id"], _met(place), *place, index, group["pods"])
    ended, said = run_ranks(str(file), group["processes"], meeting)
    logger.info("the group of run %s ended here: %s", assignment["run_id"], said)
    return FAILED if ended.is_failed() else DONE


def _met(place: tuple[str, int]) -> Any:
    """Return the store of keys at the first pod, once it is there."""
    from headrace_learning.training.group import SILENCE

    from headrace_trainer.adapters.meeting import joined

    while True:
        try:
            store = joined(place, _LOOK_FOR)
        except (RuntimeError, OSError) as error:
            logger.info("no group meets at %s yet: %s", place, str(error).partition("\n")[0])
            time.sleep(_LOOK_S)
        else:
            store.set_timeout(SILENCE)
            return store


if __name__ == "__main__":
    raise SystemExit(main())
