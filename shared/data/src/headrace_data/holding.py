"""First suspect the data: whether what a cut brings is so unlike what came before that a person should look first.

Only what no honest change of the world does is suspected: many records that are rejected, values that are gone, and
numbers of another scale. Any other drift is what models are trained anew for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from headrace_data.cleaning import DUPLICATES
from headrace_data.drift import Change, FieldDrift, drift
from headrace_data.forgotten import FORGOTTEN
from headrace_data.formats.envelopes import DELETED
from headrace_data.held import Figure, Suspicion
from headrace_data.history import History, kept_sketch
from headrace_data.late_labels import UNLABELLED
from headrace_data.manifest import Provenance, SegmentManifest
from headrace_data.parts import BlobStore
from headrace_data.segments import Segment
from headrace_data.sketches import Sketch
from headrace_data.spec import Pipeline
from headrace_data.spec.hold import Hold

MOST_SEGMENTS: Final = 16
ENOUGH_ROWS: Final = 10_000
"""A segment is compared with the newest ones before that hold so many rows, or with the newest so many."""
MOST_TOLD: Final = 20
"""Suspicions that are told of one segment: a producer may break all fields at once."""
_HARMLESS: Final = (DUPLICATES, DELETED, UNLABELLED, FORGOTTEN)
"""Rules whose rejected records say nothing of what the producer writes.

Rows begin to be given up for want of labels all at once, when the first ones have waited for as long as they may.
"""


def suspicions(segment: Segment, history: History, pipeline: Pipeline, store: BlobStore) -> tuple[Suspicion, ...]:
    """Return what is suspected of a segment that would go on from a history; nothing where the pipeline holds none.

    The first segment has nothing to be compared with, nor has one after another preparation was applied. Raises
    DatasetInvalid when the store has not got what the history names.
    """
    rules = pipeline.prepare.hold
    if rules is None:
        return ()
    before, sketches, rows = Provenances(), list[Sketch](), 0
    for entry in reversed(history.counting.entries[-MOST_SEGMENTS:]):
        if rows >= ENOUGH_ROWS:
            break
        before.add(SegmentManifest.from_json(store.get(entry.manifest)))
        rows += entry.rows
        if (sketch := kept_sketch(entry, pipeline, store)) is not None:
            sketches.append(sketch)
    if not rows:
        return ()
    after = Provenances()
    after.add(segment.manifest)
    reference = _merged(sketches, pipeline)
    found = drift(reference, segment.sketch) if reference.rows else ()
    return suspect(Change(before.rejected, after.rejected), found, rules)


class Provenances:
    """Counts what became of the records that segments were cut from."""

    def __init__(self) -> None:
        self._rows = 0
        self._rejected = 0

    def add(self, manifest: SegmentManifest) -> None:
        """Count the records of one more segment."""
        self._rows += manifest.rows
        self._rejected += rejected_of(manifest.provenance)

    @property
    def rejected(self) -> float:
        """Share of the records that were rejected."""
        return self._rejected / max(1, self._rows + self._rejected)


def rejected_of(provenance: Provenance) -> int:
    """Return how many records were rejected that say something of their producer."""
    return sum(count for rule, count in provenance.rejected.items() if rule not in _HARMLESS)


def _merged(sketches: Sequence[Sketch], pipeline: Pipeline) -> Sketch:
    """Return what is known of all rows; those of before numbers were looked at only where there are no others."""
    newer = [each for each in sketches if each.spread is not None]
    whole = Sketch(pipeline)
    for each in newer or sketches:
        whole.merge(each)
    return whole


def suspect(rejected: Change, found: Sequence[FieldDrift], rules: Hold) -> tuple[Suspicion, ...]:
    """Return what changed beyond the bounds: of the records that were rejected, and of each field."""
    told: list[Suspicion] = []

    def tell(field: str, figure: Figure, change: Change) -> None:
        told.append(Suspicion(field=field, figure=figure, before=change.before, after=change.after))

    if _lost(rejected) > rules.rejected:
        tell("", "rejected", rejected)
    for each in found:
        if each.field in rules.exempt:
            continue
        if _lost(each.missing) > rules.missing:
            tell(each.field, "missing", each.missing)
        if each.scale is not None and each.scale.factor > rules.factor:
            tell(each.field, "scale", each.scale)
        if each.median is not None and _has_jumped(each.median, each.scale, rules.factor):
            tell(each.field, "median", each.median)
    return tuple(told[:MOST_TOLD])


def _lost(share: Change) -> float:
    """Return which part of what was sound before is not any more; below zero where more is."""
    return (share.after - share.before) / (1 - share.before) if share.before < 1 else 0.0


def _has_jumped(median: Change, scale: Change | None, factor: float) -> bool:
    """Tell whether a median is another one by a factor, and lies as many scales away: near zero a factor is nothing."""
    width = max(scale.before, scale.after) if scale is not None else 0.0
    is_told = width > 0 or math.isfinite(median.factor)
    return is_told and median.factor > factor and abs(median.after - median.before) > factor * width
