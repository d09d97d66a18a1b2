"""When a replica answers with variants that take less time: before it refuses calls, and no longer than it must."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

PRESSED: Final = 0.5
"""Strain from which a step down is taken: half of the wait at which calls are refused."""
BUSY: Final = 0.1
"""Strain above which a replica is not at rest: it stays as far down as it is."""
STEP_S: Final = 0.5
"""Seconds between two steps down: what waits was admitted before the last one, and has to be done first."""
FIRST_REST_S: Final = 2.0
"""Seconds at rest after which a step up is tried."""
LAST_REST_S: Final = 60.0
"""The most of these: they double each time that a step up was followed by a step down at once."""


class Degrading:
    """How many steps down from the best variants a replica answers, for all models that allow it.

    All of them wait for the same threads. Strain is how near a call is to being refused for want of time, from 1 on. A
    step up is tried after a rest; where it turns out too early, the next one waits twice as long, so that a lasting
    overload is tried less and less often. Calls are what moves it: where none come, nothing has to change.

    Used by several threads: what races changes when a step is taken, and nothing else.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.level = 0
        """Steps down: 0 answers with the best."""
        self._rest_s = FIRST_REST_S
        self._busy_at_s = self._down_at_s = self._up_at_s = -math.inf

    def step(self, strain: float, most: int) -> int:
        """Note the strain of a call, and return how many of at most `most` steps down it is answered."""
        now_s = self._clock()
        if strain > BUSY:
            self._busy_at_s = now_s
        if strain >= PRESSED:
            if self.level < most and now_s - self._down_at_s >= STEP_S:
                self._down(now_s)
        elif self.level and now_s - max(self._busy_at_s, self._down_at_s, self._up_at_s) >= self._rest_s:
            self._move(-1)
            self._up_at_s = now_s
        return min(self.level, most)

    def _down(self, now_s: float) -> None:
        too_early = now_s - self._up_at_s < self._rest_s
        self._rest_s = min(2 * self._rest_s, LAST_REST_S) if too_early else FIRST_REST_S
        self._down_at_s = now_s
        self._move(1)

    def _move(self, steps: int) -> None:
        self.level += steps
        told = "%d steps below the best variants are answered with, for want of time"
        logger.warning(told, self.level) if self.level else logger.info("the best variants answer again")
