"""The cores that a process may use."""

import logging
import math
import os
from pathlib import Path

logger = logging.getLogger(__name__)

CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Return how many cores there are for this process: the machine's, or the limit of its container, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (CONTROL_GROUP / "cpu.max").read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        logger.debug("no limit of cores is told here")
    return max(cores, 1)
