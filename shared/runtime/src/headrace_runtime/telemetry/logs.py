"""Logs of one process: lines of JSON on standard error, with the ids of the trace they belong to."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry import trace
from prometheus_client import Counter

BURST = 20
"""Warnings and errors of one place in the code that are written at once; then one every `PAUSE_S` seconds."""
PAUSE_S = 10.0

LEFT_OUT = Counter(
    "headrace_log_lines_left_out", "Warnings and errors that were not written: too many of their kind.", ("logger",)
)


def configure_logging(level: str) -> None:
    """Log JSON lines with trace ids to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(Sparing())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("kafka").setLevel(logging.ERROR if level != "DEBUG" else logging.DEBUG)


@dataclass(slots=True)
class _Place:
    """What one place in the code may still write, and what it did not."""

    allowance: float
    seen_s: float
    left_out: int = 0


class Sparing(logging.Filter):
    """Lets few warnings and errors of each place in the code through, so that no caller can fill a log.

    A place has an allowance of `BURST` lines, which grows by one every `PAUSE_S` seconds. The next line that passes
    tells how many were left out. Lines below WARNING pass: they tell of work that was done. `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._places: dict[tuple[str, int], _Place] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is written."""
        if record.levelno < logging.WARNING:
            return True
        with self._lock:
            now_s = self._clock()
            place = self._places.setdefault((record.pathname, record.lineno), _Place(BURST, now_s))
            place.allowance = min(BURST, place.allowance + (now_s - place.seen_s) / PAUSE_S)
            place.seen_s = now_s
            if place.allowance < 1:
                place.left_out += 1
                LEFT_OUT.labels(record.name).inc()
                return False
            place.allowance -= 1
            record.left_out, place.left_out = place.left_out, 0
            return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, trace id and span id when there is a span.

    `left_out` is the number of lines of the same place that were not written since the last one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{record.msecs:03.0f}",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        span_context = trace.get_current_span().get_span_context()
        if span_context.is_valid:
            line |= {"trace_id": f"{span_context.trace_id:032x}", "span_id": f"{span_context.span_id:016x}"}
        if left_out := getattr(record, "left_out", 0):
            line["left_out"] = left_out
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
