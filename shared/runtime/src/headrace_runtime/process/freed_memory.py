"""What becomes of memory that was freed: glibc keeps some for what comes next, if it is told to."""

from __future__ import annotations

import ctypes
from typing import Final

LARGEST_BYTES: Final = 16 * 1024 * 1024
"""Pieces up to this size are cut from memory that is kept: batches, fetches and messages are."""
KEPT_BYTES: Final = 32 * 1024 * 1024
"""Free memory in a row that is kept at most, in each of glibc's arenas."""
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Parameters of `mallopt`, as in malloc.h."""


def keep_freed_memory() -> bool:
    """Have the process keep freed memory, and return whether it can be told to.

    By default a batch's memory goes back to the kernel when the batch is done, and comes again page by page, each of
    them cleared, for the next one: an eighth of the CPU of lists of 1,000 numbers.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_BYTES) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
