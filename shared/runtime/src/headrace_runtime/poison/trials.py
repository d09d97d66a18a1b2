"""The service's side of a trial: work runs in a process of its own, and a fault ends that process alone.

The child is started as ``python -m <module>`` and calls `trial_child.serve`, or `trial_child.serve_requests`. Both
sides speak JSON lines over its standard input and output:

* the first line in is the set-up, which belongs to the service; the first line out is ``{"ready": true}``;
* every further line in is a request, with a payload of ``payload_bytes`` bytes behind it; its answer is
  ``{"passed": true}``, ``{"error": reason}``, or ``{"fault": reason}`` when something other than the request failed;
* a request with messages is ``{"records": [...], "rows": [...] | null}``, with bytes in base64. The child handles the
  messages. `rows` limits a single message to these rows; null means all rows.

A death counts only when the parent saw it: an error, a signal other than those of an orderly stop, a memory limit
exceeded, or a time-out. A fault of the broker, a store or a disk never counts as a death.
"""

from __future__ import annotations

import base64
import json
import logging
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

from kafka.errors import KafkaError

from headrace_runtime.errors import DeadlineExceeded, Unavailable
from headrace_runtime.process.memory import free_bytes, resident_bytes
from headrace_runtime.records import Record

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
TRIAL_TIMEOUT_S = 60.0
LOOK_EVERY_S = 0.05
MEMORY_SHARE = 0.8
"""Share of the free memory at its start that a trial may use."""
LEAST_ROOM_BYTES = 32 * 1024 * 1024
"""Part of that share that must remain after the start. With less, good messages would look like poison messages."""
PAYLOAD_BYTES = "payload_bytes"
"""Key of the payload size in a request."""
_GOOD_ORDER = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Trial:
    """A process that handles requests and stores no results. It starts at the first request, and again after a death.

    Not thread-safe. Setting `stopping` cancels the present request.
    """

    def __init__(
        self,
        module: str,
        setup: Mapping[str, Any],
        timeout_s: float = TRIAL_TIMEOUT_S,
        stopping: threading.Event | None = None,
    ) -> None:
        self._module = module
        self._setup = setup
        self._timeout_s = timeout_s
        self._stopping = stopping or threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._most_bytes = sys.maxsize

    def attempt(self, records: Sequence[Record], rows: Sequence[int] | None = None) -> str | None:
        """Handle the messages, or only these rows of a single message. Return None, or the cause of the death.

        Raises Unavailable when the trial proves nothing about the messages.
        """
        return self.ask(
            {"records": [_values(record) for record in records], "rows": None if rows is None else list(rows)}
        )

    def ask(self, request: Mapping[str, Any], payload: bytes = b"") -> str | None:
        """Send a request. Return None when it was handled, else its error or the cause of the death.

        Raises Unavailable when the trial proves nothing about the request.
        """
        if self._process is None:
            self.start()
        else:
            self._most_bytes = self.resident_bytes + int(free_bytes() * MEMORY_SHARE)
        self._tell({**request, PAYLOAD_BYTES: len(payload)}, payload)
        answer = self._answer(self._timeout_s)
        if isinstance(answer, str):
            return answer
        if fault := answer.get("fault"):
            raise Unavailable(f"{self._module}: a trial met a fault that is not of its request: {fault}")
        return answer.get("error")

    @property
    def resident_bytes(self) -> int:
        """Resident memory of the process, in bytes; 0 when no process runs."""
        return 0 if self._process is None else resident_bytes(self._process.pid)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    _close(stream)

    def start(self) -> None:
        """Start the process, unless it runs. Raises Unavailable when it does not start or memory is short."""
        if self._process is not None:
            return
        self._answers = queue.SimpleQueue()
        self._most_bytes = int(free_bytes() * MEMORY_SHARE)
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        threading.Thread(target=_read, args=(self._process, self._answers), name="trial", daemon=True).start()
        self._tell(self._setup)
        ready = self._answer(START_TIMEOUT_S)
        if isinstance(ready, str):
            raise Unavailable(f"{self._module}: the process of a trial did not start: {ready}")
        needed_bytes = resident_bytes(self._process.pid) + LEAST_ROOM_BYTES
        if needed_bytes > self._most_bytes:
            self.close()
            raise Unavailable(
                f"{self._module}: expected {needed_bytes // 1_000_000} MB of memory for a trial to tell anything, "
                f"got {self._most_bytes // 1_000_000} MB"
            )

    def _tell(self, line: Mapping[str, Any], payload: bytes = b"") -> None:
        assert self._process is not None  # noqa: S101 - started by the caller
        assert self._process.stdin is not None  # noqa: S101 - it was opened as a pipe
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.write(payload)
            self._process.stdin.flush()
        except BrokenPipeError:
            logger.debug("%s: a trial ended before it was told all", self._module)

    def _answer(self, timeout_s: float) -> dict[str, Any] | str:
        """Return the next answer, or the cause of the process's death."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                answer = self._answers.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                if self._stopping.is_set():
                    self.close()
                    raise Unavailable(f"{self._module}: a trial was given up, the service stops") from None
                if reason := self._exceeded(deadline_s, timeout_s):
                    self.close()
                    return reason
                continue
            return self._ended() if answer is None else answer

    def _exceeded(self, deadline_s: float, timeout_s: float) -> str:
        assert self._process is not None  # noqa: S101 - started by the caller
        if time.monotonic() > deadline_s:
            return f"the process did not end within {timeout_s:.0f} s"
        if resident_bytes(self._process.pid) > self._most_bytes:
            return f"the process took more than {self._most_bytes // 1_000_000} MB of memory"
        return ""

    def _ended(self) -> str:
        assert self._process is not None  # noqa: S101 - started by the caller
        code = self._process.wait()
        self.close()
        if -code in _GOOD_ORDER:
            raise Unavailable(f"{self._module}: a trial was ended by {signal.Signals(-code).name}")
        return f"process died: {signal.Signals(-code).name}" if code < 0 else f"process died with exit code {code}"


def _read(process: subprocess.Popen[bytes], answers: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    assert process.stdout is not None  # noqa: S101 - it was opened as a pipe
    try:
        for line in process.stdout:
            answers.put(json.loads(line))
    except ValueError:
        # The line is incomplete, or the pipe was closed on this side. In both cases the process has ended.
        logger.debug("a trial ended within its answer")
    answers.put(None)


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        logger.debug("a trial ended before it had read all")


def _values(record: Record) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [[name, _text(value)] for name, value in record.headers],
        "timestamp_ms": record.timestamp_ms,
        "is_append_time": record.is_append_time,
    }


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def is_transient(error: BaseException) -> bool:
    """Return whether an error comes from a dependency of the process, and not from the handled data."""
    if isinstance(error, KafkaError | Unavailable | DeadlineExceeded | ConnectionError | TimeoutError):
        return True
    # Arrow raises OSError without a number for bytes that it cannot read. Errors of the operating system have one.
    return isinstance(error, OSError) and error.errno is not None


def reason_of(error: BaseException) -> str:
    """Return an error as the reason text of a dead letter."""
    return f"{type(error).__name__}: {error}"
