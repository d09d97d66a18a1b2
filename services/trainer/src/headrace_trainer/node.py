"""A machine that lends its processes to the runs of a trainer elsewhere: `python -m headrace_trainer.node`.

It has the trainer's settings, with the number of this machine (`HEADRACE_NODE`, from 1), and reads the same object
store. Whenever the trainer's child calls a meeting it takes what is to be done, starts its processes and watches them.
When the group ends, however that is, it waits for the next meeting: the trainer decides what is tried again.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from headrace_runtime.errors import HeadraceError
from headrace_runtime.settings import load_settings
from headrace_runtime.telemetry.logs import configure_logging

from headrace_trainer.adapters.agent import run_ranks
from headrace_trainer.adapters.meeting import Meeting, taken
from headrace_trainer.settings import Settings

logger = logging.getLogger(__name__)

_PATIENCE = timedelta(seconds=10)
"""How long one look for a meeting takes."""
_PAUSE_S = 1.0


def lend(settings: Settings, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Take part in one meeting after another. For the main thread."""
    done: tuple[str, int] | None = None
    while goes_on():
        try:
            found = _take_part(settings, done)
        except (RuntimeError, OSError) as error:
            # Nobody has called a meeting, or whoever had is gone.
            logger.info("no group meets at %s: %s", settings.meeting, str(error).partition("\n")[0])
            found = None
        except ValueError as error:
            logger.warning("%s", error)
            found = None
        if found is None or found == done:
            time.sleep(_PAUSE_S)
        done = found or done


def _take_part(settings: Settings, done: tuple[str, int] | None) -> tuple[str, int]:
    """Run this machine's part of the group that meets. Returns which attempt it was of which run."""
    host, _, port = settings.meeting.rpartition(":")
    store, assignment, processes = taken((host, int(port)), settings.meeting_secret, _PATIENCE)
    attempt = assignment["run_id"], assignment["attempt"]
    if attempt == done:
        return done  # The group has learned, and the process that leads is about to export.
    meeting = Meeting(attempt[0], store, host, int(port), settings.node, settings.nodes)
    with tempfile.TemporaryDirectory(prefix="headrace-node-") as folder:
        file = Path(folder) / "assignment.json"
        file.write_text(json.dumps({**assignment, "store_url": settings.store_url}))
        ended, said = run_ranks(str(file), processes, meeting)
    logger.info(
        "attempt %s of run %s %s here: %s", attempt[1], attempt[0], "failed" if ended.is_failed() else "ended", said
    )
    return attempt


def main() -> int:
    """Lend this machine until the process is stopped."""
    configure_logging("INFO")
    try:
        settings = load_settings(Settings)
    except HeadraceError as error:
        print(f"node: {error}", file=sys.stderr)  # noqa: T201 - as every service tells it
        return 2
    if not 0 < settings.node < settings.nodes:
        print("node: HEADRACE_NODE: expected 1 or more, and fewer than HEADRACE_NODES", file=sys.stderr)  # noqa: T201
        return 2
    lend(settings)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
