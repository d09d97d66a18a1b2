"""The ends of partitions once every transaction that was written before is settled."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from headrace_runtime.errors import Unavailable
from headrace_runtime.kafka import Admin, LogReader
from headrace_runtime.kafka.producers import TRANSACTION_TIMEOUT_MS
from headrace_runtime.records import Place
from headrace_runtime.settings import KafkaSettings

SETTLE_S = 2 * TRANSACTION_TIMEOUT_MS / 1_000
"""Longest wait for the transactions of former owners: twice what the broker grants one before it aborts it."""
SETTLE_POLL_S = 0.02


def settled_ends(
    settings: KafkaSettings, reader: LogReader, places: Collection[Place], beat: Callable[[], None]
) -> dict[Place, int]:
    """Return the last stable offsets once they have passed all that is written now.

    A former owner's transaction may be committed and its offsets valid while its marker has not reached a partition:
    what it wrote lies behind the last stable offset then, and would be missed. Raises Unavailable when a transaction
    stays open.
    """
    with Admin(settings, "preprocessing.settled") as admin:
        written = admin.written_ends(places)
    deadline = time.monotonic() + SETTLE_S
    while True:
        ends = reader.ends(places)
        unsettled = [place for place in places if ends[place] < written[place]]
        if not unsettled:
            return ends
        if time.monotonic() > deadline:
            topic, partition = unsettled[0]
            where = f"{topic}:{partition}: a transaction before offset {written[unsettled[0]]}"
            raise Unavailable(f"{where} stays open for {SETTLE_S:.0f} s")
        beat()
        time.sleep(SETTLE_POLL_S)
