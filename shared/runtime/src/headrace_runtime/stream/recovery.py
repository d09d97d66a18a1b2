"""When a part that failed runs again: each time later, until it has worked for a while. Pure: no threads, no Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
WELL_AFTER_S = 15.0
"""A part that has worked for so long since it was started again is well."""


class Recovery:
    """The failures of one part. Only for the thread that runs it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._again_s = 0.0

    def failed(self) -> float:
        """Take note of a failure, and return the seconds to rest before the part is started again."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._again_s = self._clock() + pause_s
        return pause_s

    def recovered(self) -> bool:
        """Tell, once, that a part which had failed works again. For a part that works right now; quick."""
        if not self._failures or self._clock() - self._again_s < WELL_AFTER_S:
            return False
        self._failures = 0
        return True
