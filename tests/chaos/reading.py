"""Reads topics whole, and compares what was asked for with what has ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

from google.protobuf.message import Message
from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings

FACTS_WAIT_S = 120.0
"""How long the last facts may take after everything else is done."""

M = TypeVar("M", bound=Message)


def read(settings: KafkaSettings, topic: str) -> Iterator[Record]:
    """Yield every committed record that a topic holds now."""
    with LogReader(settings, "audit") as reader:
        places = reader.partitions(topic)
        reader.start_at(dict.fromkeys(places))
        for records in reader.read_to(reader.ends(places)):
            yield from records


def named(settings: KafkaSettings, topic: str, kind: type[M], name: Callable[[M], str | None]) -> Counter[str]:
    """Return how often each name occurs in a topic; what cannot be read, or has none, names none."""
    names: Counter[str] = Counter()
    for record in read(settings, topic):
        try:
            found = name(decode(record, kind))
        except Unprocessable:
            continue
        if found is not None:
            names[found] += 1
    return names


def until(ended: Callable[[], Counter[str]], asked: Counter[str]) -> Counter[str]:
    """Return what has ended once that is what was asked for, or what there is after the longest wait."""
    deadline_s = time.monotonic() + FACTS_WAIT_S
    while (found := ended()) != asked and time.monotonic() < deadline_s:
        time.sleep(1.0)
    return found


def unequal(what: str, asked: Counter[str], ended: Counter[str]) -> list[str]:
    """Return what was not ended as often as it was asked for."""
    return [
        f"{what} {name[:60]!r}: expected {asked[name]} ends, found {ended[name]}"
        for name in sorted(asked | ended)
        if asked[name] != ended[name]
    ]
