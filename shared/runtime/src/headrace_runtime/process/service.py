"""A service: its components start in order and stop in reverse order. A signal or a failure ends it."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NoReturn, Protocol, TypeVar

from headrace_runtime.errors import HeadraceError
from headrace_runtime.process.freed_memory import keep_freed_memory
from headrace_runtime.settings import ServiceSettings, load_settings
from headrace_runtime.telemetry.setup import configure

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 30.0
STOPPING = (signal.SIGTERM, signal.SIGINT)


class Component(Protocol):
    """A component of a service."""

    def start(self) -> None:
        """Start. Return when the component works, or when its start goes on in the background."""

    def stop(self) -> None:
        """Finish the work in flight, and stop. Return when all resources are released."""


class Background(ABC):
    """A component with a thread of its own.

    An error in the thread ends the service, and the supervisor of the process starts it again. `on_failure` can decide
    otherwise.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stop_timeout_s = STOP_TIMEOUT_S
        """Seconds for which `stop` waits for the thread to end."""
        self.stopping = threading.Event()
        self.on_failure: Callable[[BaseException], float | None] = _log_failure
        """Called with the exception that `run` raised. Returns the seconds until the next `run`; None for never."""
        self.on_round: Callable[[], None] = _nothing
        """Called by an endless `run` after each round without an error."""
        self.wake: Callable[[], None] = _nothing
        """Ends a wait of the thread, which then sees `stopping`. `run` sets it once it knows its wait."""
        self._thread = threading.Thread(target=self._guarded_run, name=name, daemon=True)

    @abstractmethod
    def run(self) -> None:
        """Work until `stopping` is set. May be called again after it raised an exception."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end, and wait for its end."""
        self.stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(self.stop_timeout_s)
            if self._thread.is_alive():
                logger.warning("%s did not stop within %.0f s", self.name, self.stop_timeout_s)

    def _guarded_run(self) -> None:
        pause_s: float | None = 0.0
        while pause_s is not None and not (pause_s and self.stopping.wait(pause_s)):
            try:
                self.run()
            except BaseException as error:
                if self.stopping.is_set():
                    logger.warning("%s failed while it stopped: %r", self.name, error)
                    return
                pause_s = self.on_failure(error)
            else:
                return


class Service:
    """Named components, started in the order given."""

    def __init__(self, name: str, components: Sequence[Component]) -> None:
        self.name = name
        self._components = tuple(components)
        self._ended = threading.Event()
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Start every component. When one fails to start, stop those that were started."""
        started: list[Component] = []
        try:
            for component in self._components:
                if isinstance(component, Background):
                    component.on_failure = self.fail
                component.start()
                started.append(component)
        except BaseException:
            _stop_all(started)
            raise
        logger.info("%s is up", self.name)

    def stop(self) -> None:
        """Stop every component, in reverse order."""
        _stop_all(self._components)
        logger.info("%s is down", self.name)

    def end(self) -> None:
        """Make `run` stop the service and return."""
        self._ended.set()

    def fail(self, error: BaseException) -> None:
        """Log an error, and make `run` return exit code 1."""
        logger.error("%s failed: %s", self.name, error, exc_info=error)
        self._failure = error
        self._ended.set()

    def run(self) -> int:
        """Start, wait for `end` or `fail`, stop, and return the exit code."""
        self.start()
        self._ended.wait()
        self.stop()
        return 1 if self._failure else 0


def _stop_all(components: Sequence[Component]) -> None:
    for component in reversed(components):
        try:
            component.stop()
        except Exception:
            logger.exception("%r did not stop cleanly", component)


def _nothing() -> None:
    """Do nothing: the default of the hooks of `Background`."""


def _log_failure(error: BaseException) -> None:
    logger.error("a component failed: %s", error, exc_info=error)


@contextmanager
def ending_on_signals(service: Service, *numbers: signal.Signals) -> Iterator[None]:
    """End the service when it receives one of the signals. For the main thread.

    Each signal writes a byte to a socket, and a thread reads it. A Python signal handler would run in the main thread.
    That thread misses a signal just before its wait, and just after it holds the lock that the handler needs.
    """
    readable, writable = socket.socketpair()
    with readable, writable:
        writable.setblocking(False)
        signal.set_wakeup_fd(writable.fileno())
        earlier = {number: signal.signal(number, lambda *_: None) for number in numbers}

        def read() -> None:
            if readable.recv(1):
                service.end()

        reader = threading.Thread(target=read, name="signals", daemon=True)
        reader.start()
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)
            # Ends the thread when no signal was received.
            writable.shutdown(socket.SHUT_WR)
            reader.join()


GARBAGE_AFTER: Final = 10_000
"""Objects that may hold others, made and not freed, after which Python's garbage collector looks at them."""


def settle() -> None:
    """Prepare the memory of a process that has imported and made what it works with.

    Python's garbage collector leaves out all present objects from now on: a run over everything that was imported takes
    as long as checking thousands of records. And it runs less often: after 700 objects, as by default, it would look
    at records again and again while they are being read, and they are never garbage of its kind. What is freed is kept.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)
    keep_freed_memory()


S = TypeVar("S", bound=ServiceSettings)


def _leave(*_: object) -> NoReturn:
    # Not SystemExit: kafka-python (3.0.12) catches it while it connects, logs it and goes on.
    os._exit(0)


def main(name: str, settings_class: type[S], build: Callable[[S], Service]) -> int:
    """Read the settings, start the service, run it until SIGTERM or SIGINT, and return the exit code."""
    # A stop before the service runs needs no clean-up. Process 1 of a container ignores signals without a handler.
    for number in STOPPING:
        signal.signal(number, _leave)
    try:
        settings = load_settings(settings_class)
        telemetry = configure(name, settings, settings.instance)
    except HeadraceError as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    try:
        service = build(settings)
        with ending_on_signals(service, *STOPPING):
            return service.run()
    except HeadraceError as error:
        logger.error("%s cannot start: %s", name, error)  # noqa: TRY400 - the message says what to mend
        return 1
    finally:
        telemetry.close()
