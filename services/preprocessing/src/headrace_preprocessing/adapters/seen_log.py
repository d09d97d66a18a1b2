"""The keys that a pipeline's partitions have accepted, restored from its clean topic."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping

from headrace_data.key_digests import Digests
from headrace_runtime.kafka import LogReader
from headrace_runtime.record_topics import clean_topic
from headrace_runtime.records import Place, Record
from headrace_runtime.settings import KafkaSettings
from prometheus_client import Counter

from headrace_preprocessing.adapters.settled import settled_ends
from headrace_preprocessing.core.cleaner import Cleaner

FIRST_STEP = 64
"""Messages of a clean partition that are gone back first."""
STEP_S = 5.0
"""Seconds after which no further partition is begun: the loop is to poll, which keeps its membership."""

KEYS_RESTORED = Counter(
    "headrace_preprocessing_keys_restored", "Keys that were read back from clean topics.", ["pipeline"]
)

Read = Callable[[Record], Digests | None]
"""Returns the keys of a message's rows, None when there are none to be had from it."""


class SeenLog:
    """The state of a cleaner: `State` of its loop. The clean topic has the keys, in order; the cleaner the newest."""

    def __init__(self, settings: KafkaSettings, cleaner: Cleaner, read: Read) -> None:
        self._settings = settings
        self._cleaner = cleaner
        self._read = read
        self._topic = clean_topic(cleaner.pipeline.own_name)

    def restore(self, places: Collection[Place], beat: Callable[[], None]) -> Collection[Place]:
        """Read what the cleaner lacks of these raw partitions' keys, partition after partition for some seconds.

        Everything written before the call is taken in, if it is committed at all. Raises Unavailable when a
        transaction stays open.
        """
        if not self._cleaner.window:
            for _, partition in places:
                self._cleaner.restore(partition, [], 0)
            return places
        done: list[Place] = []
        until_s = time.monotonic() + STEP_S
        with LogReader(self._settings, f"preprocessing.restore.{self._topic}") as reader:
            clean = [(self._topic, partition) for _, partition in places]
            ends, beginnings = settled_ends(self._settings, reader, clean, beat), reader.beginnings(clean)
            for topic, partition in sorted(places):
                place = (self._topic, partition)
                self._restore(reader, place, beginnings[place], ends[place], beat)
                done.append((topic, partition))
                if time.monotonic() > until_s:
                    break
        return done

    def committed(self, written: Mapping[Place, int]) -> None:
        """Take note of how far the clean topic reaches with what the cleaner knows."""
        for (topic, partition), end in written.items():
            if topic == self._topic:
                self._cleaner.commit(partition, end)

    def _restore(self, reader: LogReader, place: Place, beginning: int, end: int, beat: Callable[[], None]) -> None:
        known = self._cleaner.known(place[1])
        # Outside of what the topic holds, it was made anew, or lost rows that were not read here.
        anew = known is None or not beginning <= known <= end
        start = beginning if known is None or anew else known
        keys: list[Digests] = []
        # Behind what is known there is the marker of its transaction.
        if anew or end - start > 1:
            keys = last_keys(reader, place, (start, end), self._cleaner.window, self._read, beat)
        KEYS_RESTORED.labels(self._cleaner.pipeline.name).inc(sum(map(len, keys)))
        self._cleaner.restore(place[1], keys, end, anew=anew)


def last_keys(
    reader: LogReader, place: Place, between: tuple[int, int], wanted: int, read: Read, beat: Callable[[], None]
) -> list[Digests]:
    """Return at least the last `wanted` keys of a range of a clean partition, oldest first; all there are if less.

    How many rows a message holds is known only once it is read: the range is read in pieces from its end, each in order
    and the next one larger. Nothing of the rows is held but their keys. `beat` is called whenever something was read.
    """
    start, stop = between
    found: deque[Digests] = deque()
    held, step = 0, FIRST_STEP
    while start < stop and held < wanted:
        begin = max(start, stop - step)
        piece = _Newest(wanted - held)
        reader.start_at({place: begin})
        for records in reader.read_to({place: stop}):
            for record in records:
                piece.add(read(record))
            beat()
        held += piece.held
        found.extendleft(reversed(piece.keys))
        stop, step = begin, 2 * step
    return list(found)


class _Newest:
    """The newest of the keys that were added, at least so many."""

    def __init__(self, wanted: int) -> None:
        self.keys: deque[Digests] = deque()
        self.held = 0
        self._wanted = wanted

    def add(self, keys: Digests | None) -> None:
        if keys is None:
            return
        self.keys.append(keys)
        self.held += len(keys)
        while self.held - len(self.keys[0]) >= self._wanted:
            self.held -= len(self.keys.popleft())
