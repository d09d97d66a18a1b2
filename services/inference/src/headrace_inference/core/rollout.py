"""Candidates beside the champion: which calls they answer, and what is counted of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from threading import Lock
from typing import Final

import numpy as np

from headrace_inference.core.releases import Release, Stage
from headrace_inference.core.tensors import Array

FIRST_S: Final = 1e-5
"""What the first place of a count of times begins with (s)."""
PLACES: Final = 96
"""Places of these counts, four to an octave: the last one holds what takes longer than two minutes."""
ALIKE: Final = 0.1
"""How far a number may be from the champion's, as a share of it, to be taken for the same answer."""
_BUCKETS: Final = 10_000


class Ending(StrEnum):
    """What became of a call of a candidate."""

    ANSWERED = "answered"
    FAILED = "failed"
    NOT_FINITE = "not_finite"
    SKIPPED = "skipped"


@dataclass(slots=True)
class Counts:
    """What was counted of a candidate's step. Every number only grows."""

    champion_calls: int = 0
    candidate_calls: int = 0
    failed: int = 0
    not_finite: int = 0
    skipped: int = 0
    compared: int = 0
    differing: int = 0
    champion_times: list[int] = field(default_factory=lambda: [0] * PLACES)
    candidate_times: list[int] = field(default_factory=lambda: [0] * PLACES)


class Tally:
    """Counts one step of a candidate. Used by several threads."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.fault = ""
        """Why the candidate does not load; empty where it does."""
        self._counts = Counts()
        self._lock = Lock()

    def champion_took(self, seconds: float) -> None:
        """Count a computation of the champion."""
        with self._lock:
            self._counts.champion_calls += 1
            self._counts.champion_times[_place(seconds)] += 1

    def candidate_took(self, seconds: float) -> None:
        """Count a computation of the candidate that gave finite numbers."""
        with self._lock:
            self._counts.candidate_calls += 1
            self._counts.candidate_times[_place(seconds)] += 1

    def ended(self, ending: Ending) -> None:
        """Count a call of the candidate that the champion answered."""
        with self._lock:
            setattr(self._counts, ending.value, getattr(self._counts, ending.value) + 1)

    def compared(self, rows: int, differing: int) -> None:
        """Count rows of which both answers were compared."""
        with self._lock:
            self._counts.compared += rows
            self._counts.differing += differing

    def counts(self) -> Counts:
        """Return what was counted until now."""
        with self._lock:
            now = self._counts
            return Counts(
                now.champion_calls,
                now.candidate_calls,
                now.failed,
                now.not_finite,
                now.skipped,
                now.compared,
                now.differing,
                list(now.champion_times),
                list(now.candidate_times),
            )


class Tallies:
    """A tally for each candidate, begun anew with each step. Used by several threads."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._lock = Lock()

    def of(self, release: Release) -> Tally:
        """Return the tally of a candidate's release."""
        tally = self._tallies.get(release.model)
        if tally is None or tally.release.epoch != release.epoch:
            with self._lock:
                tally = self._tallies.get(release.model)
                if tally is None or tally.release.epoch < release.epoch:
                    tally = self._tallies[release.model] = Tally(release)
        return tally


def is_taken(release: Release, key: bytes) -> bool:
    """Return whether a candidate answers the calls with a key: its share of all keys, and the same ones in each step.

    Another candidate answers others: nobody is tried on each time.
    """
    if release.stage is not Stage.CANARY:
        return False
    place = blake2b(release.version_id.encode() + b" " + key, digest_size=8).digest()
    return int.from_bytes(place) % _BUCKETS < release.share * _BUCKETS // 100


def all_finite(arrays: Sequence[Array]) -> bool:
    """Return whether all numbers are finite; texts are."""
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in arrays)


def differing(one: Sequence[Array], other: Sequence[Array], rows: int) -> int:
    """Return in how many rows two answers differ, outputs in the same order.

    Where there are outputs that are no real numbers, such as labels, these decide; else numbers that are not close.
    """
    pairs = list(zip(one, other, strict=True))
    named = [(a, b) for a, b in pairs if a.dtype.kind != "f"] or pairs
    apart = np.zeros(rows, dtype=bool)
    for a, b in named:
        if a.shape != b.shape or len(a) != rows:
            return rows
        same = np.isclose(a, b, rtol=ALIKE, atol=1e-6, equal_nan=True) if a.dtype.kind == "f" else a == b
        apart |= ~np.asarray(same, dtype=bool).reshape(rows, -1).all(axis=1)
    return int(apart.sum())


def _place(seconds: float) -> int:
    return 0 if seconds <= FIRST_S else min(PLACES - 1, int(4 * math.log2(seconds / FIRST_S)))
