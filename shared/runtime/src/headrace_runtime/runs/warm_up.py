"""What a child of a run does while it waits: imports what it will need, without being in anybody's way."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import threading
from collections.abc import Sequence

NICENESS = 5
"""By how much the priority of the imports lies below that of the process, which is low itself."""

logger = logging.getLogger(__name__)


class WarmUp:
    """Imports modules one after another in a thread, of low priority until they are needed.

    The thread never ends. What it imported may take locks at the end of a thread, after Python no longer waits for it:
    MKL gives back memory then, and a fork at that moment would wait for its lock for ever.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = tuple(modules)
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._import_and_stay, name="warm-up", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Wait until all are imported, at the usual priority from now on: whoever forks does so with all of them."""
        if not self._done.is_set():
            _set_niceness(self._thread.native_id, self._usual)
        self._done.wait()

    def _import_and_stay(self) -> None:
        try:
            self._import_all()
        finally:
            self._done.set()
        threading.Event().wait()

    def _import_all(self) -> None:
        _set_niceness(threading.get_native_id(), self._usual + NICENESS)
        for module in self._modules:
            try:
                importlib.import_module(module)
            except Exception:
                # The work imports it again, and fails with the same error where somebody is told.
                logger.warning("%s cannot be imported ahead of its use", module, exc_info=True)
                return
        # Modules live as long as the process: collections need not look at them again.
        gc.collect()
        gc.freeze()


def _set_niceness(thread: int | None, niceness: int) -> None:
    """Set the priority of one thread where that can be had: on Linux, and upwards only for the privileged."""
    if sys.platform != "linux" or thread is None:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
    except OSError:
        return
