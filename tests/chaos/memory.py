"""How much memory the processes of a platform have needed at most."""

from __future__ import annotations

from pathlib import Path

from headrace_local.launcher import Platform
from schedule import SERVICES


def high_water_marks(platform: Platform) -> dict[str, int]:
    """Return the highest resident memory, in bytes, of each living instance of ingestion and preprocessing."""
    return {
        status.name: _high_water_mark(status.pid)
        for status in platform.status()
        if status.pid and status.name.startswith(SERVICES)
    }


def _high_water_mark(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mark,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(mark.split()[1]) * 1024
