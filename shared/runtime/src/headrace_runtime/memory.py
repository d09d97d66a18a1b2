"""Memory that was freed, and how it goes back to the operating system."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from typing import Any

logger = logging.getLogger(__name__)


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
