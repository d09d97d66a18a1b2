"""Keeps the process of an engine: starts it, again where it ends, and ends with it what it had begun."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Final

from headrace_engines.errors import EngineDied, NoMemory, NotAModel
from headrace_engines.framing import READY, Ended, Inbox, Message, packed

_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")
"""All that the process knows of its parent's environment, which may hold secrets."""
_LOAD_LIMIT_S: Final = 600.0
_QUIET_LIMIT_S: Final = 120.0
"""How long a step may take: an engine that has something to do and says nothing for so long is ended."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 30.0
_STEADY_S: Final = 60.0
"""How long an engine runs before one that ends counts as the first again."""
_LAST_MOMENT_S: Final = 2.0
_LAST_WORDS, _LONGEST_WORD = 20, 500


class EngineProcess:
    """A process of `python -m module`, told over a socket of its own. `send` is safe for many threads.

    `on_message` is called for what it tells, and `on_end` when it has ended, with the reason: both in one thread.
    """

    def __init__(
        self,
        module: str,
        told: Message,
        on_message: Callable[[Message], None],
        on_end: Callable[[EngineDied], None],
        is_awaited: Callable[[], bool],
    ) -> None:
        """Start it, and return when it is ready.

        Raises NotAModel where it cannot load what it is told to, NoMemory, and EngineDied where it hangs.
        """
        self._module, self._told = module, told
        self._on_message, self._on_end, self._is_awaited = on_message, on_end, is_awaited
        self._sending = threading.Lock()
        self._closed = threading.Event()
        self._child: _Child | None = self._begun()
        self._thread = threading.Thread(target=self._keep, name="engine", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The number of the process, None while there is none."""
        return child.process.pid if (child := self._child) else None

    def send(self, message: Message) -> None:
        """Tell it something. Raises EngineDied where it has ended, and is not back yet."""
        data = packed(message)
        with self._sending:
            child = self._child
            if child is None:
                raise EngineDied("the engine has ended, and is being started again")
            try:
                child.connection.sendall(data)
            except OSError as error:
                raise EngineDied(f"the engine has ended, and is being started again ({error})") from error

    def renew(self) -> None:
        """End it, to be started again at once."""
        self._latest.process.kill()

    def close(self) -> None:
        """End it for good."""
        self._closed.set()
        self._latest.process.kill()
        self._thread.join()

    def _begun(self) -> _Child:
        child = self._latest = _Child(self._module)
        try:
            child.connection.sendall(packed(self._told))
            (answer,) = child.inbox.wait(_LOAD_LIMIT_S)
        except TimeoutError as error:
            child.process.kill()
            raise EngineDied(f"expected a model to be loaded in {_LOAD_LIMIT_S:.0f} s, got {child.ended()}") from error
        except (Ended, OSError) as error:
            raise NotAModel(f"expected a model that the engine survives, got {child.ended()}") from error
        if answer["kind"] == READY:
            return child
        child.ended()
        if answer["memory"]:
            raise NoMemory(f"the engine found no memory for the model: {answer['text']}")
        raise NotAModel(f"expected a model that the engine loads, got {answer['text']}")

    def _keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while (child := self._child) is not None:
            began_s = time.monotonic()
            self._listen(child)
            with self._sending:
                self._child = None
            self._on_end(EngineDied(f"the process of the engine ended {child.ended()}"))
            if time.monotonic() - began_s > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            while self._child is None and not self._closed.wait(pause_s):
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
                with suppress(NotAModel, NoMemory, EngineDied, OSError):
                    self._child = self._begun()
                if self._closed.is_set():
                    # It has begun in spite of that.
                    self._latest.process.kill()

    def _listen(self, child: _Child) -> None:
        while True:
            try:
                for message in child.inbox.wait(_QUIET_LIMIT_S):
                    self._on_message(message)
            except TimeoutError:
                if self._is_awaited():
                    child.process.kill()
                    return
            except (Ended, OSError):
                return
            except Exception:
                # It holds to no agreement: whatever took it over has no more to say.
                child.process.kill()
                return


class _Child:
    def __init__(self, module: str) -> None:
        self.connection, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        self.inbox = Inbox(self.connection)
        self._words: deque[bytes] = deque(maxlen=_LAST_WORDS)
        self._reader = threading.Thread(target=self._read, name="engine's last words", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self.process.stderr or BytesIO() as told:
            for line in iter(lambda: told.readline(_LONGEST_WORD), b""):
                self._words.append(line)

    def ended(self) -> str:
        """End it, if it has not ended yet. Return how it did."""
        try:
            # Of one that has closed its socket: what else ended it should be known.
            self.process.wait(_LAST_MOMENT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
        code = self.process.wait()
        self._reader.join()
        self.connection.close()
        said = b" ".join(b"".join(self._words).split()).decode(errors="replace")[-_LONGEST_WORD:]
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        return f"{how} ({said})" if said else how
