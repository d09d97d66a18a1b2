"""What training needs from outside."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from headrace_learning.errors import NotLearnable
from headrace_learning.training.checkpoint import Checkpoint


class Checkpoints(Protocol):
    """Where a run's state is kept between attempts."""

    def newest(self, subject: str) -> Checkpoint | None:
        """Return the valid checkpoint of this subject that is furthest, of any attempt; None if there is none."""

    def due(self, *, midway: bool) -> bool:
        """Return whether it is time for another checkpoint: in the midst of an epoch, or after one."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint: whole, or not at all."""


@runtime_checkable
class ShardedCheckpoints(Checkpoints, Protocol):
    """Where each of several processes keeps its part of a run's state."""

    def shards(self, subject: str) -> Sequence[Callable[[], Checkpoint]]:
        """Return what reads the parts of the newest checkpoint that all processes kept, by rank; none without one."""


class Artifacts(Protocol):
    """What the spec names by its digest: files that were made elsewhere."""

    def read(self, digest: str, size_bytes: int) -> bytes:
        """Return the bytes of a digest, verified. Raise `NotLearnable` where there are none, or others."""


class NoArtifacts:
    """A place without any."""

    def read(self, digest: str, size_bytes: int) -> bytes:
        """Raise `NotLearnable`."""
        raise NotLearnable(
            f"train.network.digest: expected {size_bytes:,} bytes of {digest}, got none: there is no store"
        )


class Progress(Protocol):
    """Who is told how far a run is."""

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        """Tell that `step` of `steps` epochs are done, with `eta_s` seconds to go."""
