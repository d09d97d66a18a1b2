"""Which segments of a history are kept: all, unless the pipeline says what it retains.

Dropped are segments that the window cannot reach any more, and that are older than the pipeline retains. A window
reaches twice as far here as it is long, so that it can be made longer, up to that, without a gap. Segments of backfills
stay. Datasets that were made of a dropped segment name its parts themselves, and keep them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from headrace_data.history import Entry, History
from headrace_data.spec import Last, Newest, Pipeline

_MARGIN: Final = 2
"""How many times the window's length is kept."""


def retained(history: History, pipeline: Pipeline) -> History:
    """Return the history of the segments that the pipeline's window may still need, or that it retains."""
    retain, counting = pipeline.retain, history.counting
    if retain is None or pipeline.prepare.window == "all":
        return history
    clock = pipeline.stream.time or ""
    needed = set(_within_reach(counting, pipeline, clock))
    if retain.age is not None:
        needed |= _since(counting, retain.age, clock)
    # By what a backfill took, its repeat is known.
    needed |= {place for place, entry in enumerate(counting.entries) if entry.source is not None}
    return _with_held(history, {counting.entries[place].manifest.digest for place in needed})


def _with_held(history: History, needed: Collection[str]) -> History:
    """Return the history of what is needed, by the digests of manifests, and of what waits for a decision.

    What was dropped stays for as long as something older does: until then its rows are told of.
    """
    kept: list[Entry] = []
    for entry in history.entries:
        waits = entry.held is not None and not entry.held.dropped
        if entry.manifest.digest in needed or waits or (kept and entry.held is not None):
            kept.append(entry)
    return history.model_copy(update={"entries": tuple(kept)})


def _within_reach(history: History, pipeline: Pipeline, clock: str) -> Collection[int]:
    """Return the places of the entries within the window, with its margin."""
    window, entries = pipeline.prepare.window, history.entries
    if isinstance(window, Last):
        return _since(history, _MARGIN * window.last, clock)
    if isinstance(window, Newest):
        return range(len(entries) - _newest(entries, _MARGIN * window.rows), len(entries))
    return range(max(0, len(entries) - _MARGIN), len(entries))


def _newest(entries: Sequence[Entry], rows: int) -> int:
    """Return how many of the newest segments hold so many rows, or all of them."""
    for count, entry in enumerate(reversed(entries)):
        if rows <= 0:
            return count
        rows -= entry.rows
    return len(entries)


def _since(history: History, seconds: float, clock: str) -> set[int]:
    """Return the places of the entries with a row that is at most so much older than the newest one of that clock."""
    watermark = history.watermark_of(clock)
    if watermark is None:
        return set(range(len(history.entries)))
    first = watermark - round(seconds * 1_000_000)
    return {
        place for place, entry in enumerate(history.entries) if entry.last_time is not None and entry.last_time >= first
    }
