"""Memory: how much there is, how much a process holds, and how what was freed goes back to the operating system."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

CONTROL_GROUP = Path("/sys/fs/cgroup")


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds; 0 when it is gone or the system does not tell.

    What is mapped of files, such as libraries and the weights of large graphs, makes way for whoever needs memory.
    """
    try:
        _, resident, of_files, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
        return (resident - of_files) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def total_bytes() -> int:
    """Return the memory that there is for this process at most: the machine's, or the limit of its container."""
    total = [sys.maxsize]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        total += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
        total.append(int((CONTROL_GROUP / "memory.max").read_text()))
    except (OSError, ValueError):
        logger.debug("no limit of memory is told here")
    return min(total)


def free_bytes() -> int:
    """Return the memory that this process may still take: the machine's, or less in a container with a limit."""
    free = [sys.maxsize]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        held = int((CONTROL_GROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CONTROL_GROUP / "memory.stat").read_text().splitlines())
        # What is only kept of files makes way for whoever needs memory.
        held -= int(stat.get("inactive_file", 0))
        free.append(int((CONTROL_GROUP / "memory.max").read_text()) - held)
    except (OSError, ValueError):
        logger.debug("no limit of memory is told here")
    return max(0, min(free))


def give_back() -> None:
    """Return freed memory to the operating system, where the C library can: glibc keeps it otherwise, for ever.

    Takes some ten milliseconds of one thread. Elsewhere than with glibc nothing happens.
    """
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        logger.debug("this C library has no malloc_trim")
        return None
