"""A full disk: the system refuses what a process writes to files, as it does when no space is left."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from pathlib import Path

REFUSED = "[Errno 27]"
"""How Python tells of a file that would exceed the limit; on Linux EFBIG."""


class FullDisk:
    """A limit of no bytes for every file that some processes write; sockets and pipes are not concerned.

    It needs no rights and no mount, and ends with the process: one that is started again finds space.
    """

    def __init__(self) -> None:
        self._before: dict[int, tuple[int, int]] = {}

    def fill(self, pids: Iterable[int]) -> None:
        """Refuse what these processes write from now on, until there is room again."""
        for pid in set(pids) - self._before.keys():
            try:
                _, most = limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
            except ProcessLookupError:
                continue
            self._before[pid] = limits

    def make_room(self) -> None:
        """Let those that still live write again."""
        for pid, limits in self._before.items():
            try:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
            except ProcessLookupError:
                continue
        self._before.clear()


def refusals(logs: Iterable[Path]) -> int:
    """Return how often processes have told in their logs that a write was refused."""
    return sum(
        line.count(REFUSED) for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()
    )
