"""What the core needs from outside."""

from typing import Protocol

from headrace_learning.training.ports import Progress


class Curve(Progress, Protocol):
    """Keeps the learning curve of a run, and hands its progress on."""

    def write(self) -> None:
        """Write what was kept so far."""
