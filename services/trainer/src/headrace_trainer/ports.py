"""What the core needs from outside."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.ports import Progress
from headrace_learning.tuning import Trial


class Curve(Progress, Protocol):
    """Keeps the learning curve of a run, and hands its progress on."""

    def write(self) -> None:
        """Write what was kept so far."""


class Trials(Protocol):
    """Where the trials of a search are recorded, over all attempts, and who is told of them."""

    def ended(self, subject: str) -> Sequence[Trial]:
        """Return the trials of a subject that ended, in order, up to the first that did not."""

    def under_way(self, subject: str, number: int) -> Trial | None:
        """Return what is known of a trial that did not end, None when nothing is."""

    def write(self, subject: str, trial: Trial) -> None:
        """Record a trial, in the place of what was recorded of it before."""

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep the last checkpoint of the best trial so far, whatever is saved later."""

    def tell(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Tell that `step` of `steps` trials have ended."""
