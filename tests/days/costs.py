"""What the processes of a platform, and the children that they start, need at most."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from headrace_local.launcher import Platform

_TICKS = os.sysconf("SC_CLK_TCK")


class Costs:
    """The highest resident memory of each process that was seen, by what it is."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.marks: dict[str, int] = {}
        """Bytes by the name of a process, or of a child's parent."""

    def look(self) -> None:
        """Look at all that run now."""
        parents = {status.pid: status.name for status in self._platform.status() if status.pid}
        for pid, name in {**parents, **_children(parents)}.items():
            with suppress(OSError, StopIteration):
                self.marks[name] = max(self.marks.get(name, 0), _high_water_mark(pid))

    def largest(self) -> str:
        """Return the marks in words, largest first."""
        ranked = sorted(self.marks.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {mark / 2**20:.0f} MiB" for name, mark in ranked)


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _children(parents: dict[int, str]) -> dict[int, str]:
    """Return the children of processes, and theirs, each with its name."""
    found: dict[int, str] = {}
    for pid, name in parents.items():
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                found |= dict.fromkeys(map(int, listed.read_text().split()), _child_of(name))
    return found | _children(found) if found else found


def _child_of(name: str) -> str:
    return name if name.endswith("'s child") else f"{name}'s child"


def _high_water_mark(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
