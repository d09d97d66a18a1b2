"""Whether a pipeline's topic of answers has a place for each: it grows a moment after the topic of the records."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from headrace_runtime.kafka import Admin
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings

logger = logging.getLogger(__name__)

AGAIN_S = 1.0
"""Seconds between two looks."""


class Places:
    """Tells whether the answers to records have a partition. Used by the thread of one loop."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._partitions = 0
        self._looked_s = float("-inf")

    def __call__(self, records: Sequence[Record]) -> bool:
        """Return whether all of these have one. Raises KafkaError when the cluster does not say."""
        needed = 1 + max((record.partition for record in records), default=-1)
        if needed > self._partitions and time.monotonic() - self._looked_s > AGAIN_S:
            with Admin(self._settings, "inference") as admin:
                self._partitions = admin.partitions_of(self._topic)
            self._looked_s = time.monotonic()
            if needed > self._partitions:
                logger.warning("%s has %s partitions: %s are waited for", self._topic, self._partitions, needed)
        return needed <= self._partitions
