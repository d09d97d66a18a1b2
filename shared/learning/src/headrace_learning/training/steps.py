"""Which batches of an epoch make one step together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Steps:
    """The steps of an epoch. Batches count from 0; those of a step are next to each other."""

    rows: int
    """Rows of the training split."""
    size: int
    """Rows of a batch."""
    together: int
    """Batches of a step."""

    def begins(self, batch: int) -> bool:
        """Return whether a batch is the first of its step."""
        return batch % self.together == 0

    def ends(self, batch: int) -> bool:
        """Return whether a batch is the last of its step; the last step of an epoch may have fewer."""
        return (batch + 1) % self.together == 0 or self.is_last(batch)

    def is_last(self, batch: int) -> bool:
        """Return whether a batch is the last of the epoch."""
        return (batch + 1) * self.size >= self.rows

    def passed(self, batch: int) -> float:
        """Return the share of the epoch that is done before the step of a batch."""
        return self._first(batch) / self.rows

    def share(self, batch: int) -> float:
        """Return the share of the epoch that the step of a batch is."""
        return self._rows(batch) / self.rows

    def weight(self, batch: int, rows: int) -> float:
        """Return the share of its step that a batch of so many rows is: each row counts alike."""
        return rows / self._rows(batch)

    def _first(self, batch: int) -> int:
        return (batch - batch % self.together) * self.size

    def _rows(self, batch: int) -> int:
        return min(self.rows - self._first(batch), self.together * self.size)
