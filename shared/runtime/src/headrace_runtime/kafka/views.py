"""A compacted topic as a table that is always current."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from google.protobuf.message import Message

from headrace_runtime.errors import Unavailable, Unprocessable
from headrace_runtime.kafka.consumers import LogReader
from headrace_runtime.messages import Record, decode
from headrace_runtime.service import Background
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import Topic

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)


class CompactedView(Background, Generic[M]):
    """Calls on_message(key, message, record) for every message of a topic, from the beginning, in its own thread.

    The message is None for a tombstone. Every process sees the whole topic; no consumer group is involved. A message
    that cannot be decoded is logged and passed over.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: Topic,
        message_class: type[M],
        on_message: Callable[[str, M | None, Record], None],
        name: str,
    ) -> None:
        super().__init__(f"{name} follows {topic.name}")
        self._settings = settings
        self._topic = topic
        self._message_class = message_class
        self._on_message = on_message
        self._ready = threading.Event()

    @property
    def ready(self) -> bool:
        """Whether everything that the topic held at the start has been seen."""
        return self._ready.is_set()

    def wait_ready(self, timeout_s: float) -> None:
        """Return once `ready`. Raises Unavailable when that takes longer."""
        if not self._ready.wait(timeout_s):
            raise Unavailable(f"{self.name}: not at the end of the topic after {timeout_s:.0f} s")

    def run(self) -> None:
        """Follow the topic until stopped."""
        with LogReader(self._settings, self.name.replace(" ", "-")) as reader:
            places = reader.partitions(self._topic.name)
            reader.start_at(dict.fromkeys(places))
            ends = reader.ends(places)
            while not self.stopping.is_set():
                for record in reader.poll(0.2):
                    self._deliver(record)
                if not self._ready.is_set() and reader.reached(ends):
                    self._ready.set()

    def _deliver(self, record: Record) -> None:
        key = (record.key or b"").decode(errors="replace")
        try:
            message = None if record.value is None else decode(record, self._message_class)
        except Unprocessable as error:
            logger.error("%s: passed over: %s", self.name, error)  # noqa: TRY400 - the place is in the message
            return
        self._on_message(key, message, record)
