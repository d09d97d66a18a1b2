"""The process in which graphs are tried: `python -m headrace_inference.child`. See `adapters.graph_trial`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace_engines.run_limit import RunLimit
from headrace_runtime.poison.trial_child import Handle, serve_requests

from headrace_inference.adapters.engine_model import EngineModel

NICENESS = 10
"""Priority of trials: calls are answered meanwhile."""


def build(setup: Mapping[str, Any]) -> Handle:
    """Return the handler of requests, each of which has a graph as its payload, or the path of its file."""
    os.nice(NICENESS)
    # Whoever waits for the trial ends it first, and knows then that the graph hangs.
    limit = RunLimit(2 * setup["limit_s"])

    def handle(request: Mapping[str, Any], graph: bytes) -> None:
        EngineModel(Path(request["path"]) if "path" in request else graph, setup["max_rows"], limit).try_out()

    return handle


if __name__ == "__main__":
    sys.exit(serve_requests(build))
