"""What a run costs by the prices that an operator sets."""

from __future__ import annotations

from dataclasses import dataclass

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of an hour, None where there is none. Without any, nothing is said to cost anything."""

    cpu_hour: float | None = None
    """Of processor time."""
    gpu_hour: float | None = None
    """For which a GPU is held, by the clock."""
    currency: str = ""
    """What they are counted in, such as EUR."""

    def cost(self, cpu_s: float, gpu_s: float) -> float | None:
        """Return what so many seconds cost, None without prices. What has no price of its own costs nothing."""
        if self.cpu_hour is None and self.gpu_hour is None:
            return None
        return ((self.cpu_hour or 0.0) * cpu_s + (self.gpu_hour or 0.0) * gpu_s) / _HOUR_S
