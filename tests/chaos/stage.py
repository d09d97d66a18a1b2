"""Carries out a schedule on a running platform."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing

import datasets
import poison
from anew import Anew, patiently
from disk import FullDisk, refusals
from headrace_local.launcher import Platform
from headrace_runtime.kafka import Admin
from headrace_runtime.settings import KafkaSettings
from kafka import KafkaAdminClient
from records import MOST_PARTITIONS, PIPELINE
from schedule import ADD, ANEW, BROKER, FILL, FREEZE, GROW, KILL, PAUSE, POISON, REMOVE, RESTART, Event

Say = Callable[[str], None]
FULL_AT_MOST_S = 300.0
"""How long a disk stays full where nobody meets it: longer than records may stand still on a busy machine."""


class Stage:
    """Does to the platform's processes what the schedule says, one event after the other."""

    def __init__(self, platform: Platform, anew: Anew, settings: KafkaSettings, say: Say) -> None:
        self._platform = platform
        self._anew = anew
        self._settings = settings
        self._say = say
        self._paused: dict[str, tuple[int, threading.Timer]] = {}
        self._full: list[threading.Thread] = []
        self._carry_out: dict[str, Callable[[Event], str | None]] = {
            KILL: self._kill,
            BROKER: self._kill,
            PAUSE: self._pause,
            RESTART: self._restart,
            ADD: self._add,
            REMOVE: lambda event: platform.remove_instance(event.target),
            POISON: lambda _: poison.send(settings, self.done[POISON]),
            GROW: self._grow,
            ANEW: lambda _: anew.again(),
            FREEZE: lambda _: datasets.ask(settings, f"freeze-{self.done[FREEZE]}"),
            FILL: self._fill,
        }
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
        """Let everything that stands still go on, and wait until there is room."""
        for name in list(self._paused):
            self._go_on(name)
        for keeper in self._full:
            keeper.join()

    def refusals(self) -> int:
        """Return how often full disks have refused what preprocessing wrote, by its logs."""
        return refusals(self._platform.home.glob("logs/preprocessing*"))

    def _do(self, event: Event) -> None:
        told = self._carry_out[event.action](event)
        self._say(f"{event}: {told}" if told else str(event))
        self.done[event.action] += 1

    def _kill(self, event: Event) -> str:
        return f"pid {self._platform.signal(event.target, signal.SIGKILL)}"

    def _pause(self, event: Event) -> str:
        name = event.target
        pid = self._platform.signal(name, signal.SIGSTOP)
        timer = threading.Timer(event.for_s, self._go_on, [name])
        timer.daemon = True
        self._paused[name] = (pid, timer)
        timer.start()
        return f"pid {pid}"

    def _go_on(self, name: str) -> None:
        pid, timer = self._paused.pop(name, (0, None))
        if timer:
            timer.cancel()
        if pid and self._platform.pid(name) == pid:
            self._platform.signal(name, signal.SIGCONT)
            self._say(f"           {name} goes on")

    def _restart(self, event: Event) -> None:
        self._platform.stop_process(event.target)
        self._platform.start_process(event.target)

    def _add(self, event: Event) -> None:
        added = self._platform.add_instance(event.target.rpartition("-")[0], wait=False)
        assert added == event.target, f"expected {event.target}, got {added}"

    def _grow(self, event: Event) -> str:
        grown = 0

        def grow() -> None:
            nonlocal grown
            with Admin(self._settings, "chaos") as admin:
                grown = admin.partitions_of(PIPELINE)
            if grown >= MOST_PARTITIONS:
                return
            grown += 1
            with closing(KafkaAdminClient(client_id="chaos", **self._settings.kafka_client())) as client:
                client.create_partitions({PIPELINE: grown})

        patiently(grow)
        return f"{grown} partitions"

    def _fill(self, event: Event) -> str:
        """Fill the disk of every instance of a service, and ask for a dataset that meets it."""
        disk = FullDisk()
        pids = self._pids(event.target)
        disk.fill(pids)
        keeper = threading.Thread(target=self._keep_full, args=[event, disk], daemon=True)
        self._full.append(keeper)
        keeper.start()
        datasets.ask(self._settings, f"full-{self.done[FILL]}")
        return f"pids {', '.join(map(str, pids))}"

    def _keep_full(self, event: Event, disk: FullDisk) -> None:
        """Let no instance write for the event's time; on a busy machine for longer, until one has met the full disk."""
        began, met = time.monotonic(), self.refusals()
        while (full_s := time.monotonic() - began) < event.for_s or (
            self.refusals() == met and full_s < FULL_AT_MOST_S
        ):
            time.sleep(0.5)
            disk.fill(self._pids(event.target))
        disk.make_room()

    def _pids(self, service: str) -> list[int]:
        return [status.pid for status in self._platform.status() if status.pid and status.name.startswith(service)]
