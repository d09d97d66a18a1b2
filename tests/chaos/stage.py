"""Carries out a schedule on a running platform."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import poison
from headrace_local.launcher import Platform
from headrace_runtime.settings import KafkaSettings
from schedule import ADD, BROKER, KILL, PAUSE, POISON, REMOVE, RESTART, Event

Say = Callable[[str], None]


class Stage:
    """Does to the platform's processes what the schedule says, one event after the other."""

    def __init__(self, platform: Platform, say: Say) -> None:
        self._platform = platform
        self._say = say
        self._paused: dict[str, tuple[int, threading.Timer]] = {}
        self.done: Counter[str] = Counter()
        """How often each action was carried out."""

    def play(self, events: Sequence[Event], check: Callable[[], None]) -> None:
        """Carry out the events at their times; check is called in between and may raise to end it all."""
        began = time.monotonic()
        for event in events:
            while (left := began + event.at_s - time.monotonic()) > 0:
                time.sleep(min(left, 0.5))
                check()
            self._do(event)

    def settle(self) -> None:
        """Let everything that stands still go on."""
        for name in list(self._paused):
            self._go_on(name)

    def _do(self, event: Event) -> None:
        name = event.process
        platform = self._platform
        if event.action in (KILL, BROKER):
            self._say(f"{event}: pid {platform.signal(name, signal.SIGKILL)}")
        elif event.action == PAUSE:
            pid = platform.signal(name, signal.SIGSTOP)
            self._say(f"{event}: pid {pid}")
            timer = threading.Timer(event.for_s, self._go_on, [name])
            timer.daemon = True
            self._paused[name] = (pid, timer)
            timer.start()
        elif event.action == RESTART:
            platform.stop_process(name)
            platform.start_process(name)
            self._say(str(event))
        elif event.action == ADD:
            added = platform.add_instance(name.rpartition("-")[0], wait=False)
            assert added == name, f"expected {name}, got {added}"
            self._say(str(event))
        elif event.action == REMOVE:
            platform.remove_instance(name)
            self._say(str(event))
        elif event.action == POISON:
            settings = KafkaSettings.model_validate({"kafka_bootstrap_servers": platform.bootstrap_servers})
            poison.send(settings, self.done[POISON])
            self._say(str(event))
        self.done[event.action] += 1

    def _go_on(self, name: str) -> None:
        pid, timer = self._paused.pop(name, (0, None))
        if timer:
            timer.cancel()
        if pid and self._platform.pid(name) == pid:
            self._platform.signal(name, signal.SIGCONT)
            self._say(f"           {name} goes on")
