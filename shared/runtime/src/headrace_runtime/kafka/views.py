"""A compacted topic as a table that is always current."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Generic, TypeVar

from google.protobuf.message import Message

from headrace_runtime.errors import Unavailable, Unprocessable
from headrace_runtime.kafka.consumers import ANSWER_TIMEOUT_MS
from headrace_runtime.kafka.ends import Ends
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.kafka.readers import LogReader
from headrace_runtime.process.service import Background
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import Topic

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

POLL_TIMEOUT_S = 5.0
LOOK_S = 0.1
"""How often the end is looked for while somebody waits for it: nothing tells that a marker was passed."""


class CompactedView(Background, Generic[M]):
    """A thread that calls on_message(key, message, record) for every message of a topic, from the beginning.

    The message is None for a tombstone. on_ready() is called once, after the messages that the topic held at the start.
    Every process reads the whole topic, without a consumer group. A message that cannot be decoded is logged and
    skipped.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: Topic,
        message_class: type[M],
        on_message: Callable[[str, M | None, Record], None],
        name: str,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(f"{name} follows {topic.name}")
        self._settings = settings
        self._topic = topic
        self._message_class = message_class
        self._on_message = on_message
        self._on_ready = on_ready
        self._ready = threading.Event()
        self._asked: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()

    @property
    def ready(self) -> bool:
        """Whether the messages that the topic held at the start were delivered."""
        return self._ready.is_set()

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until `ready`. Raises Unavailable after the time-out."""
        if not self._ready.wait(timeout_s):
            raise Unavailable(f"{self.name}: not at the end of the topic after {timeout_s:.0f} s")

    def catch_up(self, timeout_s: float) -> None:
        """Wait until the messages committed before this call were delivered. Raises Unavailable after the time-out."""
        if not self.ask().wait(timeout_s):
            raise Unavailable(f"{self.name}: not at the end of the topic after {timeout_s:.0f} s")

    def ask(self) -> threading.Event:
        """Return an event that is set once the messages committed before this call were delivered."""
        seen = threading.Event()
        self._asked.put(seen)
        self.wake()
        return seen

    def run(self) -> None:
        """Follow the topic until stopped."""
        # What was committed a moment ago counts, too: its markers may not be written yet.
        written = Ends(self._settings, "read_uncommitted")
        with LogReader(self._settings, self.name.replace(" ", "-")) as reader, closing(written):
            places = reader.partitions(self._topic.name)
            reader.start_at(dict.fromkeys(places))
            self.wake = reader.wake
            waiting = [(self._ready, reader.ends(places))]
            while not self.stopping.is_set():
                for record in reader.poll(LOOK_S if waiting else POLL_TIMEOUT_S, self._is_wanted):
                    self._deliver(record)
                while not self._asked.empty():
                    waiting.append((self._asked.get(), written.of(places, ANSWER_TIMEOUT_MS)))
                for seen, ends in waiting:
                    if reader.reached(ends):
                        if seen is self._ready:
                            self._on_ready()
                        seen.set()
                waiting = [item for item in waiting if not item[0].is_set()]

    def _is_wanted(self) -> bool:
        return self.stopping.is_set() or not self._asked.empty()

    def _deliver(self, record: Record) -> None:
        key = (record.key or b"").decode(errors="replace")
        try:
            message = None if record.value is None else decode(record, self._message_class)
        except Unprocessable as error:
            logger.error("%s: passed over: %s", self.name, error)  # noqa: TRY400 - the place is in the message
            return
        self._on_message(key, message, record)
