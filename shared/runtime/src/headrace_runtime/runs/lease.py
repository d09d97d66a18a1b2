"""The lease of a run: the partition that its command lies in."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from headrace_runtime.kafka.consumers import GroupConsumer
from headrace_runtime.poison.trials import is_transient
from headrace_runtime.records import Record, next_offsets

logger = logging.getLogger(__name__)

POLL_TIMEOUT_S = 0.1
AWAY_S = 60.0
"""How long a run goes on without its partition: a slow member is thrown out, and is back within seconds."""


class Interrupted(Exception):
    """The run must end here and will go on elsewhere: the worker stops."""


class Moved(Interrupted):
    """The partition was taken away for good: what is committed there tells who goes on where."""


class Lease:
    """Keeps the partition of a command by polling, while its run takes as long as it takes.

    A partition that is taken away may come back: the group throws out whoever is slow, and takes it in again. The run
    goes on meanwhile. When the partition is back, its committed offset tells whether another worker has ended the
    command; when none has, nothing has happened.
    """

    def __init__(self, record: Record, consumer: GroupConsumer, clock: Callable[[], float] = time.monotonic) -> None:
        self._record = record
        self._consumer = consumer
        self._arrivals = consumer.arrivals()
        self._clock = clock
        self._away_since_s: float | None = None
        self._returned = False
        # From here on only: it came with the poll that brought the command.
        self._arrivals.new()

    @property
    def command(self) -> str:
        """Where the command lies."""
        return self._record.coordinates

    def keep(self) -> bool:
        """Poll once, and return whether the partition is ours without a doubt. Raises Moved."""
        others = self._consumer.poll(POLL_TIMEOUT_S)
        # A rebalance may have given partitions that are not paused yet: what came from them is read again afterwards.
        self._consumer.pause()
        self._consumer.rewind(others)
        back = self._record.place in self._arrivals.new()
        held = self._record.place in self._consumer.assignment()
        if self._away_since_s is None and (back or not held):
            logger.info("%s: the partition is away, and its run goes on", self.command)
            self._away_since_s = self._clock()
        if self._away_since_s is None:
            return True
        if held and self._unfinished():
            logger.info("%s: the partition is back", self.command)
            self._away_since_s, self._returned = None, True
            return True
        if self._clock() - self._away_since_s > AWAY_S:
            raise Moved("the partition moved to another worker")
        return False

    def committed(self) -> None:
        """Go on behind the command, which is done: a partition that came back begins at the command again."""
        if self._returned:
            self._consumer.advance(next_offsets([self._record]))

    def _unfinished(self) -> bool:
        """Return whether nobody has ended the command meanwhile, False also while that is not known. Raises Moved."""
        place = self._record.place
        try:
            offset = self._consumer.committed([place])[place]
        except Exception as error:
            if not is_transient(error):
                raise
            logger.info("%s: cannot tell yet what is committed: %r", self.command, error)
            return False
        if offset is not None and offset > self._record.offset:
            raise Moved("the partition was away, and another worker has ended the command")
        return True
