"""The child's side of a trial: handles requests and answers whether it lived. See `trials`."""

from __future__ import annotations

import base64
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from headrace_runtime.poison.trials import PAYLOAD_BYTES, is_transient, reason_of
from headrace_runtime.process.pipes import claim_standard_output
from headrace_runtime.records import Record
from headrace_runtime.telemetry.logs import configure_logging

logger = logging.getLogger(__name__)

Attempt = Callable[[Sequence[Record], Sequence[int] | None], object]
"""Handles messages, or some rows of a single one; what it returns is thrown away."""


Handle = Callable[[Mapping[str, Any], bytes], object]
"""Handles a request with its payload; what it returns is thrown away."""


def serve(build: Callable[[Mapping[str, Any]], Attempt]) -> int:
    """Handle messages until standard input closes. `build` gets the set-up and returns the handler of messages."""

    def build_handler(setup: Mapping[str, Any]) -> Handle:
        attempt = build(setup)

        def handle(request: Mapping[str, Any], _: bytes) -> object:
            return attempt([_record(each) for each in request["records"]], request["rows"])

        return handle

    return serve_requests(build_handler)


def serve_requests(build: Callable[[Mapping[str, Any]], Handle]) -> int:
    """Handle requests until standard input closes. `build` gets the set-up and returns the handler of requests."""
    configure_logging(os.environ.get("HEADRACE_LOG_LEVEL", "INFO"))
    answers = claim_standard_output()
    _die_first()
    requests: queue.SimpleQueue[tuple[Mapping[str, Any], bytes]] = queue.SimpleQueue()
    # Read apart, so that a request that hangs does not keep this process when its parent is gone.
    threading.Thread(target=_read, args=(requests,), name="requests", daemon=True).start()
    setup, _ = requests.get()
    handle = build(setup)
    _answer(answers, {"ready": True})
    while True:
        _answer(answers, _tried(handle, *requests.get()))


def _die_first() -> None:
    """Let the kernel, when it is out of memory, end this process before its parent."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _tried(handle: Handle, request: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
    try:
        handle(request, payload)
    except Exception as error:
        logger.exception("a trial failed")
        return {"fault" if is_transient(error) else "error": reason_of(error)}
    return {"passed": True}


def _read(requests: queue.SimpleQueue[tuple[Mapping[str, Any], bytes]]) -> None:
    for line in iter(sys.stdin.buffer.readline, b""):
        request = json.loads(line)
        requests.put((request, sys.stdin.buffer.read(request.get(PAYLOAD_BYTES, 0))))
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
        values["is_append_time"],
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
