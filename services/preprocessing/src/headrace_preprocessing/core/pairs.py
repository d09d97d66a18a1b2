"""How many rows have their labels by now: that decides when a dataset is cut, and not which rows it takes."""

from __future__ import annotations

from collections.abc import Iterable

from headrace_data.key_digests import Digests


class Pairs:
    """Counts rows whose key has a label, whichever of them is seen first. Holds about 100 bytes for each key."""

    def __init__(self, rows: Iterable[Digests] = (), labels: Iterable[Digests] = ()) -> None:
        """Begin with rows that wait, and with labels that may have rows to come."""
        self.ready = 0
        """Rows that have a label."""
        self.waiting = 0
        """Rows that have none."""
        self._rows: dict[int, int] = {}
        self._labels: set[int] = set()
        for each in labels:
            self._labels.update(each[:, 0].tolist())
        for each in rows:
            self.add_rows(each)

    def keep_labels(self, keys: Digests) -> None:
        """Know of these labels alone from now on; rows that had another stay ready."""
        self._labels = set(keys[:, 0].tolist())

    def add_rows(self, keys: Digests) -> None:
        """Count rows by their keys."""
        for key in keys[:, 0].tolist():
            if key in self._labels:
                self.ready += 1
            else:
                self._rows[key] = self._rows.get(key, 0) + 1
                self.waiting += 1

    def add_labels(self, keys: Digests) -> None:
        """Count labels by their keys."""
        for key in keys[:, 0].tolist():
            found = self._rows.pop(key, 0)
            self.ready += found
            self.waiting -= found
            self._labels.add(key)
