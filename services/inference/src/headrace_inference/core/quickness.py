"""Which calls are computed at once, in the thread in which they arrive, and which come too late for it."""

from __future__ import annotations

from headrace_runtime.errors import DeadlineExceeded

from headrace_inference.core.releases import CachePolicy
from headrace_inference.core.shelf import LoadedVersion

AT_ONCE_S = 0.001
"""Calls that should take less are computed at once: the way to another thread and back costs about 0.15 ms."""


def is_quick(version: LoadedVersion, rows: int) -> bool:
    """Return whether a call of so many rows is computed at once.

    Never where its values decide how long it takes: one caller could hold up the thread that all others wait for.
    """
    speed = version.speed
    return speed.is_steady and speed.of(rows) <= AT_ONCE_S


def may_be_quick(version: LoadedVersion) -> bool:
    """Return whether a call of one row is computed at once, its answer neither looked for nor recorded."""
    return is_quick(version, 1) and not version.cached and not version.release.records


def may_be_shared(version: LoadedVersion, rows: int) -> bool:
    """Return whether equal calls of so many rows may be answered with one computation.

    Not where the pipeline keeps no answers. What is quick is computed before an equal call could wait for it.
    """
    return version.cached or (version.release.cache is not CachePolicy.OFF and not is_quick(version, rows))


def check_deadline(version: LoadedVersion, left_s: float | None) -> None:
    """Raise DeadlineExceeded when a caller has no time left; None stands for a call without a deadline."""
    if left_s is not None and left_s <= 0:
        raise late(version)


def late(version: LoadedVersion) -> DeadlineExceeded:
    """Return the error of a call that came to the model too late."""
    return DeadlineExceeded(f"model {version.release.model!r}: the deadline passed before the model was asked")
