"""Digits on a topic of their own are answered by what learned from others, while a replica is killed; and how fast."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest
from headrace_client import RegistryClient
from headrace_runtime.record_topics import scored_topic
from headrace_runtime.records import Record
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
DIGITS = (ROOT / "examples" / "digits" / "pipeline.yaml").read_text()
ASKED = "digits-asked"
EARLY, AMID, TIMED = 100, 6_000, 30_000
"""Records before there is a release, those that come while the replica is killed, and those by which it is timed."""


def send(platform: Platform, values: Sequence[bytes], count: int) -> None:
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for at in range(count):
        producer.send(ASKED, values[at % len(values)])
    producer.flush()
    producer.close()


@contextmanager
def timed(platform: Platform, rows: int) -> Iterator[None]:
    """Print how fast records are answered meanwhile, and what of a processor each takes, by process."""
    replica = psutil.Process(platform.pid("inference"))
    found = {each.pid: each for each in (replica, *replica.children(recursive=True))}
    before, began_s = {pid: sum(each.cpu_times()[:2]) for pid, each in found.items()}, time.perf_counter()
    yield
    took_s = time.perf_counter() - began_s
    used = {pid: sum(each.cpu_times()[:2]) - before[pid] for pid, each in found.items()}
    own, beside = used.pop(replica.pid), sum(used.values())
    told = f"{own / rows * 1e6:.0f} µs in the replica and {beside / rows * 1e6:.0f} µs beside it"
    print(f"\n{rows} records of 64 numbers: {rows / took_s:.0f} a second; of a processor each took {told}")


def test_scoring(
    platform: Platform,
    headrace: Callable[..., Any],
    produce: Callable[..., None],
    registry: RegistryClient,
    until: Callable[..., Any],
    committed: Callable[[Platform, str], Sequence[Record]],
    tmp_path: Path,
) -> None:
    document = tmp_path / "pipeline.yaml"
    document.write_text(DIGITS.replace("cacheTtl: 1h}", f"cacheTtl: 1h, scoring: {{topic: {ASKED}}}}}"))
    values = (ROOT / "examples" / "digits" / "rows.jsonl").read_bytes().splitlines()
    applied = headrace("apply", str(document), "--create-topic")
    assert applied.returncode == 0, applied.stderr
    send(platform, [*values, b"{broken"], EARLY)

    def answers() -> Sequence[Record]:
        return committed(platform, scored_topic("digits"))

    until("what is waited for is told", lambda: "waiting for the first release" in headrace("status").stdout)
    assert not answers()
    produce(platform)
    waited = headrace("wait", "digits", "--timeout", "300s")
    assert waited.returncode == 0, waited.stdout + waited.stderr
    until("the early ones are answered", lambda: len(answers()) >= EARLY)
    status = json.loads(headrace("status", "--json").stdout)
    assert [(each["topic"], each["answers"]) for each in status["scoring"]] == [(ASKED, scored_topic("digits"))]
    assert not [each for each in status["troubles"] if each["part"] == "inference.digits"]
    told = [json.loads(each.value or b"") for each in answers()]
    assert {(each["model"], each["version"]) for each in told} == {("digits", "1")}
    assert sum("rejection" in each for each in told) == EARLY // (len(values) + 1)
    assert all(each["outputs"]["label"] in range(10) for each in told if "outputs" in each)

    send(platform, values, AMID)
    until("some are answered", lambda: len(answers()) > EARLY)
    killed = platform.signal("inference", signal.SIGKILL)
    until("the replica runs again", lambda: platform.pid("inference") not in (0, killed))
    until("all are answered", lambda: len(answers()) >= EARLY + AMID, 180)
    with timed(platform, TIMED):
        send(platform, values, TIMED)
        until("nobody is behind", lambda: not any(each.messages for each in registry.lags() if each.topic == ASKED))
    places = Counter(tuple(json.loads(each.value or b"")["record"].values()) for each in answers())
    assert (len(places), set(places.values())) == (EARLY + AMID + TIMED, {1})
