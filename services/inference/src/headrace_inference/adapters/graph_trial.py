"""Graphs tried in a process of their own, before the process that serves touches them."""

from __future__ import annotations

import threading

from headrace_engines import beside
from headrace_runtime.errors import Unprocessable
from headrace_runtime.poison.trials import Trial

from headrace_inference.core.releases import Graph

CHILD = "headrace_inference.child"
KEPT_BYTES = 192 * 1024 * 1024
"""Memory that the process may hold while it waits for the next graph; with more it is ended, and started anew."""


class GraphTrial:
    """Loads a graph and runs it once: a graph that crashes, hangs or takes all memory does so in there. One thread."""

    def __init__(self, max_rows: int, limit_s: float) -> None:
        self._stopping = threading.Event()
        self._trial = Trial(CHILD, {"max_rows": max_rows, "limit_s": limit_s}, limit_s, self._stopping)

    def attempt(self, graph: Graph, data: beside.Graph) -> None:
        """Return when the graph loads and answers.

        Raises Unprocessable with the reason when it does not, and Unavailable when the trial tells nothing about it.
        """
        asked = ({}, data) if isinstance(data, bytes) else ({"path": str(data)}, b"")
        reason = self._trial.ask(*asked)
        if reason is not None:
            raise Unprocessable(f"graph {graph.digest}: {reason}")
        if self._trial.resident_bytes > KEPT_BYTES:
            self._trial.close()
            self._trial.start()

    def stop(self) -> None:
        """Give the trial in hand up, from any thread."""
        self._stopping.set()

    def close(self) -> None:
        """End the process."""
        self._trial.close()
