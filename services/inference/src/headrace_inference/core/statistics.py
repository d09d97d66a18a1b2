"""What was done with each version since the process started: counts and seconds, as clients of Triton know them."""

from __future__ import annotations

import time
from threading import Lock

from headrace_inference.core.releases import Release


class Duration:
    """How often something was done, and the seconds that it took in sum."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += seconds


class Steps:
    """The steps of computing: reading the inputs, running the model, writing the outputs. Times are sums of seconds."""

    __slots__ = ("count", "infer_s", "input_s", "output_s")

    def __init__(self) -> None:
        self.count = 0
        self.input_s = self.infer_s = self.output_s = 0.0

    def add(self, input_s: float, infer_s: float, output_s: float, count: int = 1) -> None:
        """Count one more execution, or several with their sums."""
        self.count += count
        self.input_s += input_s
        self.infer_s += infer_s
        self.output_s += output_s


class VersionStatistics:
    """What was done with one version. Counted by any thread; sums that belong together may be a call apart when read.

    `success` and `queue` count every answered call, those from the cache too; `by_rows` what was computed, by the
    number of rows in a call. `last_s` is the time of the last answer, in seconds since the epoch; 0 without one.
    """

    __slots__ = ("_lock", "by_rows", "fail", "hit", "last_s", "miss", "queue", "success")

    def __init__(self) -> None:
        self._lock = Lock()
        self.success = Duration()
        self.fail = Duration()
        self.queue = Duration()
        self.hit = Duration()
        self.miss = Duration()
        self.by_rows: dict[int, Steps] = {}
        self.last_s = 0.0

    def answered(self, duration_s: float) -> None:
        """Count an answered call."""
        with self._lock:
            self.success.add(duration_s)
            self.last_s = time.time()

    def failed(self, duration_s: float) -> None:
        """Count a call that was not answered."""
        with self._lock:
            self.fail.add(duration_s)

    def found(self, looked_s: float) -> None:
        """Count an answer from the cache."""
        with self._lock:
            self.hit.add(looked_s)
            self.queue.add(0.0)

    def missed(self, looked_s: float) -> None:
        """Count an answer that was not in the cache."""
        with self._lock:
            self.miss.add(looked_s)

    def computed(self, rows: int, input_s: float, infer_s: float, output_s: float, queue_s: float = 0.0) -> None:
        """Count one execution of so many rows, which waited so long for its turn."""
        with self._lock:
            self.queue.add(queue_s)
            steps = self.by_rows.get(rows)
            if steps is None:
                steps = self.by_rows[rows] = Steps()
            steps.add(input_s, infer_s, output_s)

    @property
    def rows(self) -> int:
        """Rows that were computed."""
        return sum(rows * steps.count for rows, steps in list(self.by_rows.items()))

    @property
    def steps(self) -> Steps:
        """All executions, whatever their rows."""
        total = Steps()
        for steps in list(self.by_rows.values()):
            total.add(steps.input_s, steps.infer_s, steps.output_s, steps.count)
        return total


class Statistics:
    """Statistics by model and version, kept when a version is released again. Safe for use by several threads."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int], VersionStatistics] = {}

    def of(self, release: Release) -> VersionStatistics:
        """Return those of a release's version."""
        place = (release.model, release.ordinal)
        found = self._versions.get(place)
        if found is None:
            found = self._versions.setdefault(place, VersionStatistics())
        return found
