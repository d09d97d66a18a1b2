"""The child's side of a trial: handles what it is told to and answers whether it lived. See `trials`."""

from __future__ import annotations

import base64
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from headrace_runtime.logs import configure_logging
from headrace_runtime.messages import Record
from headrace_runtime.pipes import claim_standard_output
from headrace_runtime.trials import is_transient, reason_of

logger = logging.getLogger(__name__)

Attempt = Callable[[Sequence[Record], Sequence[int] | None], object]
"""Handles messages, or some rows of a single one; what it returns is thrown away."""


def serve(build: Callable[[Mapping[str, Any]], Attempt]) -> int:
    """Handle messages until standard input closes. `build` gets the set-up and returns what handles them."""
    configure_logging(os.environ.get("HEADRACE_LOG_LEVEL", "INFO"))
    answers = claim_standard_output()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # Read apart, so that a message that hangs does not keep this process when its parent is gone.
    threading.Thread(target=_read, args=(lines,), name="requests", daemon=True).start()
    attempt = build(json.loads(lines.get()))
    _answer(answers, {"ready": True})
    while True:
        request = json.loads(lines.get())
        _answer(answers, _tried(attempt, [_record(each) for each in request["records"]], request["rows"]))


def _tried(attempt: Attempt, records: Sequence[Record], rows: Sequence[int] | None) -> dict[str, Any]:
    try:
        attempt(records, rows)
    except Exception as error:
        logger.exception("a trial of %s messages failed", len(records))
        return {"fault" if is_transient(error) else "error": reason_of(error)}
    return {"passed": True}


def _read(lines: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)


def _answer(answers: TextIO, answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _record(values: Mapping[str, Any]) -> Record:
    return Record(
        values["topic"],
        values["partition"],
        values["offset"],
        _bytes(values["key"]),
        _bytes(values["value"]),
        [(name, _bytes(value) or b"") for name, value in values["headers"]],
        values["timestamp_ms"],
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
