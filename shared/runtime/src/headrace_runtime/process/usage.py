"""What this process and its children have taken of the machine."""

from __future__ import annotations

import resource
from typing import NamedTuple

_KIB = 1024


class Usage(NamedTuple):
    """Processor time and memory."""

    cpu_s: float
    """Processor time in user and system mode, all threads and ended children (seconds)."""
    peak_memory_bytes: int
    """Largest resident set so far: of this process, or of a child where that is larger."""

    @classmethod
    def now(cls) -> Usage:
        """Return what was taken so far."""
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(
            own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
            _KIB * max(own.ru_maxrss, children.ru_maxrss),
        )

    def since(self, began: Usage) -> Usage:
        """Return the processor time since `began`; a peak has no beginning."""
        return self._replace(cpu_s=self.cpu_s - began.cpu_s)
