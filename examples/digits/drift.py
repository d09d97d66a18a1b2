"""The second act: the stream changes, accuracy falls, Headrace learns anew and swaps the model under load."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace_client import RegistryClient
from headrace_client.stages import Mark
from headrace_client.waiting import Progress, wait_for
from headrace_data.spec import Pipeline
from headrace_local.launcher import Platform
from rich.console import Console
from rich.live import Live
from screen import Screen
from traffic import Stream, Traffic

HERE = Path(__file__).resolve().parent
STEADY_S = 4.0
AFTER_SWAP_S = 6.0
LEAST_CALLS = 2_000


class DriftFailed(Exception):
    """The second act did not end as it should."""


def run(platform: Platform, registry: RegistryClient, pipeline: Pipeline, console: Console, svg: Path | None) -> None:
    """Call without pause while the stream changes and a new version is trained, compared, released and swapped in."""
    stream = Stream(pipeline, platform.bootstrap_servers)
    traffic = Traffic(stream, platform.addresses["inference"])
    screen = Screen(traffic)
    before = registry.datasets(pipeline.name)[-1].frozen.dataset_id
    traffic.start()
    try:
        with shown(screen, console):
            screen.tell("callers ask about test images from the stream, without pause")
            hold(STEADY_S)
            screen.tell("the scanner wears out: the stream is turned, faint and noisy from here on")
            last_record_s = produce(platform)
            follow(registry, pipeline.name, before, screen)
            served_s = first_answer(traffic, "2")
            screen.tell(f"version 2 is served, {served_s - last_record_s:.1f} s after the last record")
            screen.stage = "the same callers, the same connections"
            hold(AFTER_SWAP_S)
            while len(traffic.calls) < LEAST_CALLS:
                hold(0.5)
    finally:
        traffic.stop()
    if svg is not None:
        screen.save(svg)
    if not console.is_terminal:
        console.print(screen)
    verdict(traffic, console, served_s - last_record_s)


def produce(platform: Platform) -> float:
    """Send the disturbed digits by the plain producer, and return when the last one was written."""
    command = [
        sys.executable,
        str(HERE / "produce.py"),
        "--bootstrap-servers",
        platform.bootstrap_servers,
        "--disturbed",
    ]
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic()


def follow(registry: RegistryClient, pipeline: str, before: str, screen: Screen) -> None:
    """Show each stage of the second dataset until its version is released."""
    done: set[str] = set()

    def show(progress: Progress) -> None:
        for item in progress.stages:
            if item.mark is Mark.RUNNING:
                screen.stage = f"{item.name}: {item.text}"
            if item.mark is Mark.DONE and item.name not in done:
                done.add(item.name)
                for part in f"{item.name}: {item.text}".split("; "):
                    screen.tell(part)

    wait_for(registry, pipeline, timeout_s=150.0, after=before, on_progress=show)


def first_answer(traffic: Traffic, version: str, timeout_s: float = 30.0) -> float:
    """Return when a version answered first, waiting for it."""
    deadline = time.monotonic() + timeout_s
    while (moment_s := traffic.first_answer_of(version)) is None:
        if time.monotonic() > deadline:
            raise DriftFailed(
                f"version {version}: expected an answer within {timeout_s:.0f} s of its release, got none"
            )
        hold(0.05)
    return moment_s


def verdict(traffic: Traffic, console: Console, seconds: float) -> None:
    """Print what the callers saw. Raises DriftFailed when a call failed or a version was never seen."""
    versions = traffic.versions()
    told = ", ".join(f"version {version} answered {count:,}" for version, count in sorted(versions.items()))
    console.print(f"{len(traffic.calls):,} calls, failed={traffic.failed}: {told}")
    console.print(f"last record to new version served: {seconds:.1f} s")
    if traffic.failed:
        raise DriftFailed(next(call.failure for call in traffic.calls if call.failure))
    if not {"1", "2"} <= set(versions):
        raise DriftFailed(f"versions seen: expected 1 and 2, got {sorted(versions)}")


def hold(seconds: float) -> None:
    """Let time pass: the audience watches."""
    threading.Event().wait(seconds)


@contextmanager
def shown(screen: Screen, console: Console) -> Iterator[None]:
    """Draw the screen four times a second on a terminal; print a line every two seconds elsewhere."""
    if console.is_terminal:
        with Live(screen, console=console, refresh_per_second=4):
            yield
        return
    over = threading.Event()

    def report() -> None:
        while not over.wait(2.0):
            console.print(f"  {screen.line()}")

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        over.set()
        reporter.join()
