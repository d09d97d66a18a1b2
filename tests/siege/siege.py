"""Lays siege to inference on this machine's loopback: overload with deadlines, slow and hostile connections.

    python tests/siege/siege.py --seconds 8

Prints how an honest caller fares beside each attack, and what the server holds before and afterwards. Beside attacks on
REST two more callers ask for predictions and read streams of a model of language. Exits 1 when one of their answers is
not the one of a quiet time, the server's memory has grown by more than a fifth and grows again in a second round, a
traceback is in its log, an honest call failed, or the honest caller's 99th percentile is more than three times that of
a quiet time, or more than 50 ms beside an attack on REST (`--untimed` leaves these out).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from attacks import ATTACKS, Address, Attack  # noqa: E402
from rest_attacks import REST_ATTACKS, bad_json, hundreds_of_callers  # noqa: E402

from benchmarks.serving.load import requests  # noqa: E402
from benchmarks.serving.network import MODEL  # noqa: E402

HERE = Path(__file__).parent
MOST_GROWTH = 1.2
"""Of the server's memory in one round of attacks, before a second round tells a leak from a heap."""
MOST_TIMES_SLOWER = 3.0
MOST_BESIDE_REST_MS = 50.0
"""Of calls over gRPC beside attacks on REST, whose heads and small bodies are read by the same interpreter."""
SETTLES_S = 20.0
"""How long the server may take to give back what it held."""
OVERLOAD = {"calls_per_s": 8000, "deadline_ms": 500}


class Process:
    """A Python program of ours that answers each line with a line of JSON."""

    def __init__(self, command: list[str], log: Path | None = None) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with Path(log or os.devnull).open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said if log else None,
                env=environment,
                text=True,
            )
        self.pid = self._process.pid

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Return the next line."""
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())

    def end(self) -> int:
        """End it by the end of its input; return its exit code."""
        self._process.communicate(timeout=60)
        return self._process.returncode


class Siege:
    """A server, an honest caller beside it, and what was found."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._seconds = seconds
        self.log = folder / "log"
        self.server = Process([str(HERE / "server.py"), str(folder)], self.log)
        port, rest_port = self.server.hear()
        self._address: Address = ("127.0.0.1", port)
        self._rest: Address = ("127.0.0.1", rest_port)
        request = folder / "request"
        request.write_bytes(requests(MODEL, 1)[0])
        place = [f"127.0.0.1:{self._address[1]}", str(request)]
        self.honest = Process([str(HERE / "honest.py"), *place])
        self.sound = Process([str(HERE / "sound.py"), f"127.0.0.1:{rest_port}"])
        self.load = Process(["-m", "benchmarks.serving.open_loop", *place])
        self.problems: list[str] = []
        self.calm_ms = 0.0

    @property
    def memory_mib(self) -> float:
        """What the server holds in memory, in MiB."""
        return float(psutil.Process(self.server.pid).memory_info().rss) / 2**20

    def calm(self) -> None:
        """See how the honest caller fares alone."""
        self.honest.tell(str(self._seconds))
        seen = self.honest.hear()
        self.calm_ms = seen["p99_ms"]
        self._print("alone", seen)

    def attack(self, attack: Attack) -> None:
        """Attack beside the honest caller."""
        over_rest = attack in REST_ATTACKS
        callers = [self.honest, self.sound] if over_rest else [self.honest]
        with _running(attack, self._rest if over_rest else self._address):
            for each in callers:
                each.tell(str(self._seconds))
            seen, *beside = [each.hear() for each in callers]
        self._judge(attack.__name__.replace("_", " "), seen)
        for found in beside:
            print(f"  beside it {found['answered'][0]} predictions and {found['answered'][1]} streams over REST")
            if found["wrong"] or not all(found["answered"]):
                self.problems.append(f"{attack.__name__}: sound callers of REST saw {found['wrong'][:3] or 'nothing'}")
        if over_rest:
            self._ask_rest(attack.__name__)

    def _ask_rest(self, name: str) -> None:
        """See whether the REST port answers honest callers, once the attack is over."""
        deadline_s = time.monotonic() + SETTLES_S
        while True:
            with suppress(OSError), urlopen("http://{}:{}/v2/health/ready".format(*self._rest), timeout=5) as answer:  # noqa: S310
                if answer.status == HTTPStatus.OK:
                    return
            if time.monotonic() > deadline_s:
                self.problems.append(f"{name}: the REST port does not answer any more")
                return

    def warm_rest(self) -> None:
        """Let the REST port allocate what stays."""
        for attack in (bad_json, hundreds_of_callers):
            with _running(attack, self._rest):
                time.sleep(self._seconds / 4)
            self._ask_rest(attack.__name__)

    def overload(self) -> dict[str, float]:
        """Offer more than can be answered, from other connections."""
        self.load.tell(json.dumps(OVERLOAD | {"seconds": self._seconds}))
        outcome: dict[str, float] = self.load.hear()
        goodput = outcome["good"] / outcome["seconds"]
        print(f"overload, {OVERLOAD}: {goodput:.0f} good calls/s, recovered in {outcome['recovered_ms']:.0f} ms")
        if not outcome["good"]:
            self.problems.append("overload: no call was answered in time")
        return outcome

    def round(self, before_mib: float, *, timed: bool) -> float:
        """Carry out every attack and the overload; return the MiB that the server holds once it has settled."""
        for attack in (*ATTACKS, *REST_ATTACKS):
            self.attack(attack)
            most_ms = MOST_BESIDE_REST_MS if attack in REST_ATTACKS else MOST_TIMES_SLOWER * self.calm_ms
            if timed and self.slowest_ms > most_ms:
                self.problems.append(f"{attack.__name__}: p99 {self.slowest_ms:.1f} ms, alone {self.calm_ms:.1f} ms")
        self.overload()
        deadline_s = time.monotonic() + SETTLES_S
        while (after_mib := self.memory_mib) > MOST_GROWTH * before_mib and time.monotonic() < deadline_s:
            time.sleep(0.2)
        print(f"memory: {before_mib:.0f} MiB before, {after_mib:.0f} MiB afterwards")
        return after_mib

    def _judge(self, name: str, seen: dict[str, Any]) -> None:
        self._print(name, seen)
        if seen["failed"] or not seen["answered"]:
            self.problems.append(f"{name}: the honest caller's calls failed: {seen['failed'] or 'all of them'}")

    def _print(self, name: str, seen: dict[str, Any]) -> None:
        times = f" ({seen['p99_ms'] / self.calm_ms:.1f} times)" if self.calm_ms else ""
        print(
            f"{name}: {seen['answered']} answered, p50 {seen['p50_ms']:.1f} ms, p99 {seen['p99_ms']:.1f} ms{times}, "
            f"server {self.memory_mib:.0f} MiB",
            flush=True,
        )
        self.slowest_ms = seen["p99_ms"]


@contextmanager
def _running(attack: Attack, address: Address) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=attack, args=(address, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def lay(folder: Path, seconds: float, *, timed: bool) -> list[str]:
    """Carry out every attack; return what went wrong."""
    siege = Siege(folder, seconds)
    siege.overload()  # warm: what the first thousand calls allocate stays
    siege.warm_rest()
    siege.calm()
    before_mib = siege.memory_mib
    once_mib = siege.round(before_mib, timed=timed)
    if once_mib > MOST_GROWTH * before_mib:
        # A heap may have found its size only now. A leak grows by as much again.
        twice_mib = siege.round(once_mib, timed=timed)
        if twice_mib - once_mib > (once_mib - before_mib) / 2:
            siege.problems.append(f"memory: {before_mib:.0f} MiB, then {once_mib:.0f}, then {twice_mib:.0f}")
    for each in (siege.honest, siege.sound, siege.load, siege.server):
        if each.end():
            siege.problems.append("a process failed")
    log = siege.log.read_text(errors="replace")
    if "Traceback" in log or len(log) > 100_000:
        siege.problems.append(f"the log holds a traceback, or grew to {len(log)} bytes: {log[-2000:]}")
    return siege.problems


def main() -> int:
    """Lay siege as the command line says."""
    parser = argparse.ArgumentParser(prog="siege", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each attack (default 8)")
    parser.add_argument("--untimed", action="store_true", help="judge no times: for machines that do other work")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-siege-")))
        problems = lay(folder, chosen.seconds, timed=not chosen.untimed)
    for problem in problems:
        print(f"FAILED: {problem}")
    return int(bool(problems))


if __name__ == "__main__":
    raise SystemExit(main())
