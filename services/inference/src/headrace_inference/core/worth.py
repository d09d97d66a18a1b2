"""What a hit in Redis costs beside the model: hot predictions of `serve.cache: auto` are kept where it is little."""

from __future__ import annotations

import threading

MOST_SHARE = 0.5
"""The most that a hit may cost of what the model costs."""
SWING = 0.2
"""By how much of that share a decision has to be wrong before it is turned: two measurements are never alike."""
GUESSED_HIT_S = 0.0001
"""What a hit costs until it is measured."""


class Worth:
    """What a hit and the model of one version cost, in seconds of CPU, and whether hits pay. Read by any thread."""

    __slots__ = ("_lock", "hit_s", "measured", "model_s", "pays")

    def __init__(self, model_s: float) -> None:
        self._lock = threading.Lock()
        self.hit_s = GUESSED_HIT_S
        self.model_s = model_s
        self.measured = False
        """Whether a hit has been measured, and the model at the same time."""
        self.pays = self._share() < MOST_SHARE

    def learn(self, hit_s: float, model_s: float) -> bool:
        """Take note of what both cost now. Return whether that turns the decision, or is the first measurement."""
        with self._lock:
            first, before = not self.measured, self.pays
            self.hit_s, self.model_s, self.measured = hit_s, model_s, True
            swing = 0.0 if first else SWING if before else -SWING
            self.pays = self._share() < MOST_SHARE * (1 + swing)
            return first or self.pays is not before

    def _share(self) -> float:
        return self.hit_s / self.model_s if self.model_s else float("inf")

    def __str__(self) -> str:
        took = "should take" if not self.measured else "takes"
        return f"a hit {took} {self.hit_s * 1e3:.3f} ms of CPU, the model {self.model_s * 1e3:.3f} ms"
