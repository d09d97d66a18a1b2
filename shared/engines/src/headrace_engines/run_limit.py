"""A limit on the time that a model computes: a run that takes longer is told to end."""

from __future__ import annotations

import threading
import time

import onnxruntime as ort

LOOKS = 8
"""How often a run is looked at within its limit."""


class RunLimit:
    """Ends runs of ONNX Runtime that take more than `limit_s` seconds. Safe for use by several threads.

    A thread looks at what runs. It begins with the first run and rests while nothing runs.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._running: dict[ort.RunOptions, float] = {}
        """When each run began, by its options."""
        self._spare: list[ort.RunOptions] = []
        self._begun = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self) -> ort.RunOptions:
        """Return the options of a run that begins now. Their `terminate` is set when the limit is over."""
        try:
            options = self._spare.pop()
        except IndexError:
            options = ort.RunOptions()
            # Errors are raised as well, and a caller could fill the log with them.
            options.log_severity_level = 4
        self._running[options] = time.monotonic()
        if not self._begun.is_set():
            self._begun.set()
            self._start()
        return options

    def end(self, options: ort.RunOptions) -> None:
        """Take note that a run is over."""
        began_s = self._running.pop(options)
        # Those of a run that was near its limit may be told to end a moment from now.
        if time.monotonic() - began_s < self.limit_s / 2:
            self._spare.append(options)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="run limit", daemon=True)
                self._thread.start()

    def _look(self) -> None:
        while True:
            self._begun.wait()
            time.sleep(self.limit_s / LOOKS)
            late_s = time.monotonic() - self.limit_s
            for options, began_s in list(self._running.items()):
                if began_s < late_s:
                    options.terminate = True
            # In this order: a run that begins in between either sees that the thread rests, or is seen here.
            self._begun.clear()
            if self._running:
                self._begun.set()
