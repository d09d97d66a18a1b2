"""The processor time that a training may take."""

import time
from collections.abc import Callable


class Purse:
    """Processor time of a training in this process and those beside it, and of attempts before. All threads count."""

    def __init__(self, limit_s: float | None, together: Callable[[float], float] = float) -> None:
        """`limit_s` is what there is, None for any amount. `together` returns the sum over all processes that train.

        These are asked at the same time then.
        """
        self._limit_s = limit_s
        self._together = together
        self._start_s = time.process_time()

    def take_up(self, spent_s: float) -> None:
        """Count what an earlier attempt spent, in seconds."""
        self._start_s -= spent_s

    def spent_s(self) -> float:
        """Return what is spent, in seconds; 0 without a limit: what is kept of a run then depends on the run alone."""
        return 0.0 if self._limit_s is None else self._together(time.process_time() - self._start_s)

    def is_empty(self) -> bool:
        """Return whether nothing is left."""
        return self._limit_s is not None and self.spent_s() >= self._limit_s
