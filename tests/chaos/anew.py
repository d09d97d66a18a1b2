"""A producers' topic that is deleted and created again while records of the old one may wait to be read.

What ingestion had not read of an old topic is lost by right: of each partition a tail. Everything of the last one is
there, and nothing of any is there twice.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

import datasets
from headrace.events.v1 import record_pb2
from headrace_client import RegistryClient
from headrace_data.batches import from_ipc
from headrace_runtime.kafka import Admin
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.record_topics import clean_topic, dead_topic
from headrace_runtime.settings import KafkaSettings
from kafka import KafkaProducer
from kafka.errors import KafkaError
from reading import read
from records import SPEC

PIPELINE = "anew"
PARTITIONS = 2
WAVE = (20, 4_000)
"""Fewest and most records that are written at once: a new topic may soon be longer than the old one was read."""
BAD_EVERY = 50
GENERATION = 10**9
"""Ids of one topic and of the next are so far apart."""
PATIENCE_S = 120.0

Done = TypeVar("Done")
Found = dict[int, tuple[int, int, str]]
"""Where each record came from (partition and offset), and the rule that rejected it, by id."""


class Anew:
    """A topic, written in waves and made anew in between."""

    def __init__(self, settings: KafkaSettings, seed: int) -> None:
        self._settings = settings
        self._dice = random.Random(f"{seed}/anew")
        self._written: list[int] = []
        """How many records each topic of this name was sent."""

    def begin(self, registry: RegistryClient) -> None:
        """Create the topic and its pipeline, and write the first wave."""
        with Admin(self._settings, "chaos") as admin:
            admin.ensure_topic(PIPELINE, PARTITIONS)
        registry.apply(SPEC.replace("chaos", PIPELINE))
        self._written.append(0)
        self._write()

    def again(self) -> None:
        """Write a wave that nobody waits for, delete the topic, create it, and write a wave to the new one."""
        self._write()
        patiently(self._make_anew)
        self._written.append(0)
        self._write()

    def audit(self, store_url: str) -> tuple[str, list[str]]:
        """Wait for the rest, and freeze it; return the figures of it, and what is wrong."""
        last, deadline_s = len(self._written) - 1, time.monotonic() + PATIENCE_S
        while True:
            found, differences = self._found()
            kept = Counter(identity // GENERATION for identity in found)
            if kept[last] >= self._written[last] or time.monotonic() > deadline_s:
                break
            time.sleep(1.0)
        for generation, written in enumerate(self._written):
            of_it = {identity: what for identity, what in found.items() if identity // GENERATION == generation}
            differences += _wrong(generation, written, of_it, is_last=generation == last)
        clean = {identity for identity, (_, _, rule) in found.items() if identity // GENERATION == last and not rule}
        differences += self._frozen(store_url, clean)
        lost = sum(self._written) - len(found)
        return f"{last} topics made anew, of whose {sum(self._written)} records {lost} are lost by right", differences

    def _frozen(self, store_url: str, expected: set[int]) -> list[str]:
        """Freeze what waits, which must be the rows of the last topic, each once; return what is wrong with them."""
        datasets.ask(self._settings, "anew", PIPELINE)
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            frozen = list(datasets.datasets(self._settings, store_url, PIPELINE))
            if frozen or time.monotonic() > deadline_s:
                break
            time.sleep(0.5)
        ids = [identity for rows in frozen for batch in rows for identity in batch.column("id").to_pylist()]
        if len(ids) == len(expected) and set(ids) == expected:
            return []
        return [
            f"anew: expected the {len(expected)} clean rows of the last topic in one dataset, found {len(ids)} in "
            f"{len(frozen)}: {len(expected - set(ids))} are missing, {len(set(ids) - expected)} are of elsewhere"
        ]

    def _write(self) -> None:
        generation, start = len(self._written) - 1, self._written[-1]
        count = self._dice.randint(*WAVE)
        with closing(patiently(lambda: KafkaProducer(acks="all", **self._settings.kafka_client()))) as producer:
            sent = [
                producer.send(PIPELINE, _value(generation, number), _key(generation, number), [], number % PARTITIONS)
                for number in range(start, start + count)
            ]
            for future in sent:
                future.get(timeout=PATIENCE_S)
        self._written[-1] += count

    def _make_anew(self) -> None:
        with Admin(self._settings, "chaos") as admin:
            admin.delete_topics([PIPELINE])
            while admin.partitions_of(PIPELINE):
                time.sleep(0.01)
            admin.ensure_topic(PIPELINE, PARTITIONS)

    def _found(self) -> tuple[Found, list[str]]:
        found: list[tuple[int, tuple[int, int, str]]] = []
        for record in read(self._settings, clean_topic(PIPELINE)):
            for row in from_ipc(decode(record, record_pb2.RecordBatch).arrow).to_pylist():
                found.append((row["id"], (row["_partition"], row["_offset"], "")))
        for record in read(self._settings, dead_topic(PIPELINE)):
            partition, offset = (int(record.header(f"dead-{name}") or -1) for name in ("partition", "offset"))
            found.append((int(record.key or -1), (partition, offset, str(record.header("dead-rule")))))
        times = Counter(identity for identity, _ in found)
        twice = [identity for identity, count in times.items() if count > 1]
        return dict(found), [f"anew: {len(twice)} records came out twice, such as {twice[:5]}"] if twice else []


def _wrong(generation: int, written: int, found: Found, *, is_last: bool) -> list[str]:
    """Return what is wrong with what came out of one topic."""
    expected = {generation * GENERATION + number: number for number in range(written)}
    differences = []
    for identity, (partition, offset, rule) in found.items():
        number = expected.get(identity, -1)
        place = (number % PARTITIONS, number // PARTITIONS, "json" if _is_bad(number) else "")
        if (partition, offset, rule) != place:
            differences.append(f"anew: record {identity}: expected {place}, found {(partition, offset, rule)}")
    offsets: dict[int, list[int]] = defaultdict(list)
    for partition, offset, _ in found.values():
        offsets[partition].append(offset)
    for partition, present in offsets.items():
        if len(missing := sorted(set(range(max(present) + 1)) - set(present))):
            differences.append(
                f"anew: topic {generation}, partition {partition}: {len(missing)} records are missing before others, "
                f"such as {missing[:5]}"
            )
    if is_last and len(found) < written:
        differences.append(f"anew: {written - len(found)} of {written} records of the last topic are lost")
    return differences[:5]


def _is_bad(number: int) -> bool:
    return number % BAD_EVERY == 0


def _key(generation: int, number: int) -> bytes:
    return str(generation * GENERATION + number).encode()


def _value(generation: int, number: int) -> bytes:
    row = {"id": generation * GENERATION + number, "value": 0.5, "digit": number % 10}
    return json.dumps(row).encode()[: -3 if _is_bad(number) else None]


def patiently(do: Callable[[], Done]) -> Done:
    """Do something with the broker, again and again while it is away. Raises KafkaError in the end."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return do()
        except KafkaError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.5)
