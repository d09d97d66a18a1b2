"""Files, such as pictures and sounds: each value is one, and is read by a process of its own.

Libraries that read files are in C and their input is hostile, so that a file may end the process that reads it, hold it
up, or take all its memory. It does so in a child (see `file_child`), which has bounds: the file in hand then becomes a
rejection, the child is replaced, and files beside it are read. Files go there together, as many as came.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from headrace_data.errors import FilesTooSlow
from headrace_data.formats.decoding import Decoded
from headrace_data.formats.file_child import LIMIT_S, REASON
from headrace_data.rejections import Rejection

WAIT_S: Final = 60.0
"""How long an answer is waited for, by the clock: bounds of the processor's time end a child earlier, if it runs."""
MOST_STOPPED: Final = 4
"""How many files of one batch may be stopped, before the batch as a whole takes too long."""
_TOGETHER_BYTES: Final = 8 * 1024 * 1024
"""About how many bytes of files are sent at a time, one file at least."""
_LARGEST_ANSWER: Final = 64 * 1024 * 1024
_CHILD: Final = str(Path(__file__).with_name("file_child.py"))
"""Run by itself, without the rest of this package."""
_KEPT: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "PYTHONPYCACHEPREFIX")
"""Variables of the environment that the child sees."""
_GOOD_ORDER: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Found = tuple[dict[str, Any], bytes]
"""What the child knows of a file, and its body."""


class FileDecoder:
    """Reads files of one kind."""

    def __init__(self, kind: str, told: Mapping[str, Any], row: Callable[[dict[str, Any], bytes], dict[str, Any]]):
        """`told` is for the child's reader of this kind; `row` makes a row of what it answers."""
        self._kind = kind
        self._row = row
        self._reader = Reader(kind, told)

    def decode(self, values: Sequence[bytes | None], start: int, rejected: list[Rejection]) -> Decoded:
        """Return a row for each file: see `Decoder`.

        Raises OSError when no process can run, and FilesTooSlow when files of one batch are stopped again and again.
        """
        if start == 0:
            self._reader.stopped = 0
        records: list[dict[str, Any]] = []
        positions: list[int] = []
        answers = iter(self._reader.read([value for value in values if value]))
        for position, value in enumerate(values, start):
            answer = next(answers) if value else f"expected a file, got {'no' if value is None else 'an empty'} value"
            if isinstance(answer, str):
                rejected.append(Rejection(position, self._kind, "", answer))
            else:
                records.append(self._row(*answer))
                positions.append(position)
        return records, positions


@dataclass(frozen=True)
class _Death:
    """Why the child is gone."""

    reason: str
    is_certain: bool
    """Whether the file in hand is at fault: a process may be killed by others, or held up with its machine."""
    was_stopped: bool = False


class Reader:
    """The process that reads files of one kind, and the next one. Several threads ask one after another."""

    def __init__(self, kind: str, told: Mapping[str, Any], child: str = _CHILD, limit_s: float = LIMIT_S) -> None:
        """`child` is the script of the process; a file may take `limit_s` seconds of the processor there."""
        self._limit_s = limit_s
        self.stopped = 0
        """How many files it was stopped over."""
        self._command = [sys.executable, "-I", child, kind, json.dumps(told), str(limit_s)]
        self._asking = threading.Lock()
        self._child: _Child | None = None

    def read(self, files: Sequence[bytes]) -> list[Found | str]:
        """Return what there is in each file, or why nothing. Raises OSError, and FilesTooSlow."""
        found: list[Found | str] = []
        with self._asking:
            alone = False
            while len(found) < len(files):
                some, death = self._exchange(_together(files, len(found), alone=alone))
                found += some
                if death is None:
                    alone = False
                elif death.is_certain or (alone and not some):
                    found.append(death.reason)
                    alone = False
                else:
                    alone = True
        return found

    def _exchange(self, files: Sequence[bytes]) -> tuple[list[Found | str], _Death | None]:
        """Return the answers for some files; with why there are no more of them, when the child is gone."""
        if self.stopped >= MOST_STOPPED:
            raise FilesTooSlow(f"stopped reading files {self.stopped} times after {self._limit_s:g} s each")
        if self._child is None:
            self._child = _Child(self._command, self._limit_s)
        found: list[Found | str] = []
        try:
            self._child.send(files)
            found.extend(self._child.answer() for _ in files)
        except (EOFError, BrokenPipeError, TimeoutError) as error:
            death = self._child.end(timed_out=isinstance(error, TimeoutError))
            self._child = None
            self.stopped += death.was_stopped
            return found, death
        return found, None


class _Child:
    """One process, from its start to its end."""

    def __init__(self, command: Sequence[str], limit_s: float) -> None:
        """Raise OSError when it does not start."""
        self._limit_s = limit_s
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**environment, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self.close = weakref.finalize(self, _close, self._process)
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018 - pipes
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        try:
            self._take(1)
        except (EOFError, TimeoutError) as error:
            reason = self.end(timed_out=isinstance(error, TimeoutError)).reason
            raise ChildProcessError(errno.ECHILD, f"the process that reads files did not start: {reason}") from error

    def send(self, files: Sequence[bytes]) -> None:
        """Ask for some files."""
        request = [struct.pack(">I", len(files))]
        for file in files:
            request += [struct.pack(">I", len(file)), file]
        left = memoryview(b"".join(request))
        while left:
            _wait(self._in, select.POLLOUT, time.monotonic() + WAIT_S)
            left = left[os.write(self._in, left) :]

    def answer(self) -> Found | str:
        """Return the answer for the next file.

        What a reader that was taken over writes in its place ends it.
        """
        sizes = struct.unpack(">II", self._take(8))
        meta: Any = None
        body = b""
        if max(sizes) <= _LARGEST_ANSWER:
            text, body = (self._take(size) for size in sizes)
            with suppress(ValueError):
                meta = json.loads(text)
        if type(meta) is not dict:
            self._process.kill()
            raise EOFError
        return str(meta[REASON]) if REASON in meta else (meta, body)

    def _take(self, size: int) -> bytes:
        until, taken = time.monotonic() + WAIT_S, bytearray()
        while len(taken) < size:
            _wait(self._out, select.POLLIN, until)
            more = os.read(self._out, min(size - len(taken), 1 << 20))
            if not more:
                raise EOFError
            taken += more
        return bytes(taken)

    def end(self, *, timed_out: bool) -> _Death:
        """End the process, and return why it ended. Raises ChildProcessError when it was ended in good order."""
        if timed_out:
            self.close()
            return _Death(f"expected a file that is read within {WAIT_S:g} s, got one that is not", False, True)
        code = self._process.wait(WAIT_S)
        self.close()
        if code == -signal.SIGPROF:
            reason = f"expected a file that is read within {self._limit_s:g} s of the processor, got one that is not"
            return _Death(reason, is_certain=True, was_stopped=True)
        if -code in _GOOD_ORDER:
            raise ChildProcessError(errno.ECHILD, f"the process that reads files was ended by signal {-code}")
        told = f"got {signal.Signals(-code).name}" if code < 0 else f"got exit code {code}"
        return _Death(f"expected a file that can be read, {told} in the process that read it", code != -signal.SIGKILL)


def _wait(descriptor: int, event: int, until_s: float) -> None:
    """Return when a pipe is ready, or gone. Raises TimeoutError."""
    waiting = select.poll()
    waiting.register(descriptor, event)
    if not waiting.poll(max(0.0, until_s - time.monotonic()) * 1000):
        raise TimeoutError


def _close(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _together(files: Sequence[bytes], first: int, *, alone: bool) -> Sequence[bytes]:
    """Return the files from the first on that are sent at a time."""
    end, size = first + 1, len(files[first])
    while not alone and end < len(files) and size + len(files[end]) <= _TOGETHER_BYTES:
        size += len(files[end])
        end += 1
    return files[first:end]


def require_library(module: str, name: str, what: str) -> None:
    """Raise ImportError where a library is not installed. It is not imported."""
    if find_spec(module) is None:
        raise ImportError(f"expected {name} to read {what}: install headrace-data[media]")
