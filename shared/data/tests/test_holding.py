"""What is suspected of what a cut brings, and what a held segment is left out of."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from headrace_data.drift import Change, FieldDrift
from headrace_data.errors import SpecInvalid
from headrace_data.held import LARGEST, Held, Suspicion
from headrace_data.history import History, keep
from headrace_data.holding import suspect, suspicions
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.retention import retained
from headrace_data.segments import Segment, SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.spec.hold import Hold
from headrace_data.spec.retain import Retain
from headrace_data.windows import Windows

from .conftest import MemoryStore
from .many_days import DAY, days, history_of, ids

NOWHERE = Provenance(cluster_id="c", topic="days", topic_id="t", sources=(), clean_ranges=(), rejected={})
RULES = Hold()
ALIKE = Change(0.0, 0.0)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def with_hold(window: str, hold: str) -> Pipeline:
    return days(f"{window}\n  hold: {hold}")


def cut(
    pipeline: Pipeline, store: MemoryStore, number: int, *, factor: float = 1.0, rejected: dict[str, int] | None = None
) -> Segment:
    """A segment of 200 rows, whose values are those of others times a factor; none for a factor of zero."""
    random, count = np.random.default_rng(number), 200
    values: list[dict[str, Any]] = [
        {
            "id": number * count + row,
            "x": factor * random.uniform(0.1, 1) if factor else None,
            "kind": "abc"[row % 3],
            "y": row % 2,
        }
        for row in range(count)
    ]
    records = [orjson.dumps(value) for value in values]
    checked = RecordChecker(pipeline.stream).check(records, [0] * count, range(number * count, (number + 1) * count))
    assert not checked.rejected
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    return writer.finish(NOWHERE.model_copy(update={"rejected": rejected or {}}))


def cuts(pipeline: Pipeline, store: MemoryStore, count: int = 3) -> History:
    history = History(pipeline=pipeline.name)
    for number in range(count):
        history = history.and_cut(keep(cut(pipeline, store, number), pipeline, store))
    return history


def test_nothing_is_suspected_of_what_goes_on_as_before(store: MemoryStore) -> None:
    pipeline = with_hold("all", "{}")
    history = cuts(pipeline, store)
    assert suspicions(cut(pipeline, store, 3), history, pipeline, store) == ()
    assert suspicions(cut(pipeline, store, 4, factor=8), history, pipeline, store) == (), "it drifts, and is trained on"
    assert suspicions(cut(pipeline, store, 5, factor=500), History(pipeline="days"), pipeline, store) == ()
    assert suspicions(cut(days("all"), store, 6, factor=500), history, days("all"), store) == ()


def test_another_unit_is_suspected_with_what_it_was_and_is(store: MemoryStore) -> None:
    pipeline = with_hold("all", "{}")
    history = cuts(pipeline, store)
    (scale,) = suspicions(cut(pipeline, store, 3, factor=500), history, pipeline, store)
    assert (scale.field, scale.figure) == ("x", "scale")
    assert scale.after / scale.before == pytest.approx(500, rel=0.3)
    assert str(scale).startswith("field 'x': the scale was 0.4")
    assert suspicions(cut(pipeline, store, 3, factor=500), history, with_hold("all", "{factor: 1000}"), store) == ()
    assert suspicions(cut(pipeline, store, 3, factor=500), history, with_hold("all", "{exempt: [x]}"), store) == ()


def test_a_field_that_is_gone_and_records_that_are_rejected_are_suspected(store: MemoryStore) -> None:
    pipeline = with_hold("all", "{}")
    history = cuts(pipeline, store)
    (gone,) = suspicions(cut(pipeline, store, 3, factor=0), history, pipeline, store)
    assert gone == Suspicion(field="x", figure="missing", before=0, after=1)
    rejected = cut(pipeline, store, 4, rejected={"json": 500, "duplicates": 900})
    (told,) = suspicions(rejected, history, pipeline, store)
    assert (told.field, told.figure, told.before) == ("", "rejected", 0)
    assert told.after == pytest.approx(500 / 700)
    assert str(told) == "the share of records that are rejected was 0.0%, and is 71.4%"
    harmless = cut(pipeline, store, 5, rejected={"duplicates": 900, "unlabelled": 900, "json": 100})
    assert suspicions(harmless, history, pipeline, store) == ()


def test_what_is_held_is_compared_with_nothing_and_is_part_of_no_window(store: MemoryStore) -> None:
    pipeline = with_hold("all", "{}")
    history = cuts(pipeline, store)
    segment = cut(pipeline, store, 3, factor=500)
    held = Held(suspicions=suspicions(segment, history, pipeline, store))
    entry = keep(segment, pipeline, store)
    whole = History.from_json(history.and_cut(entry.model_copy(update={"held": held})).to_json())
    assert [each.segment_id for each in whole.held] == [entry.segment_id]
    before, _ = Windows(pipeline, store).dataset(history)
    after, kept = Windows(pipeline, store).dataset(whole)
    assert after.dataset_id == before.dataset_id
    assert kept.entries == whole.entries
    assert suspicions(cut(pipeline, store, 4), whole, pipeline, store) == ()
    accepted = whole.with_held(entry.segment_id, None)
    assert accepted == history.and_cut(entry)
    manifest, _ = Windows(pipeline, store).dataset(accepted)
    assert manifest.rows == 800
    dropped = whole.with_held(entry.segment_id, held.model_copy(update={"dropped": True}))
    assert dropped.held == ()
    assert dropped.counting.entries == history.entries
    newest = with_hold("new", "{}")
    assert Windows(newest, store).dataset(whole)[0].rows == 200


def test_retention_keeps_what_waits_and_what_was_dropped_while_older_rows_are_there(store: MemoryStore) -> None:
    pipeline = with_hold("new", "{}").model_copy(update={"retain": Retain(versions=20)})
    entries = cuts(pipeline, store, 6).entries
    held = Held(suspicions=(Suspicion(field="x", figure="scale", before=1, after=2000),))
    dropped = held.model_copy(update={"dropped": True})
    marked = [
        entry.model_copy(update={"held": {0: dropped, 1: held, 4: dropped}.get(place)})
        for place, entry in enumerate(entries)
    ]
    left = retained(History(pipeline="days", entries=tuple(marked)), pipeline)
    assert left.entries == tuple(marked[1:2] + marked[3:])


def test_histories_of_before_are_read_and_written_as_they_were(store: MemoryStore) -> None:
    history = history_of(days("all"), store, 2)
    assert b"held" not in history.to_json()
    assert history.counting is history
    assert len(ids(Windows(days("all"), store).dataset(history)[0], store)) == 2 * DAY


def test_what_holds_changes_no_digest_of_what_is_prepared() -> None:
    before, after = days("all"), with_hold("all", "{factor: 100, exempt: [x]}")
    assert b"hold" not in before.canonical_json()
    assert (before.preparation, before.prepare_digest) == (after.preparation, after.prepare_digest)
    assert load_pipeline(after.canonical_json()) == after


@pytest.mark.parametrize(
    ("hold", "told"),
    [
        ("{factor: 1}", "greater than 1"),
        ("{rejected: 1.5}", "less than 1"),
        ("{exempt: [xx]}", "unknown field 'xx'; expected one of id, x, kind, y; did you mean 'x'?"),
        ("{exempt: [x, x]}", "expected each field once, got 'x' again"),
        ("{bound: 3}", "bound"),
        ("true", "hold"),
    ],
)
def test_what_cannot_be_held_by_is_refused_by_name(hold: str, told: str) -> None:
    with pytest.raises(SpecInvalid) as found:
        with_hold("all", hold)
    assert told in str(found.value)
    assert "prepare.hold" in str(found.value)


@pytest.mark.parametrize(
    ("median", "scale", "suspected"),
    [
        ((20, 210), (2, 2), True),
        ((20, 45), (2, 2), False),  # far, and no other unit
        ((0.001, 4), (1, 1), False),  # near zero a factor is nothing
        ((0.001, 15), (1, 1), True),
        ((0, 1), (0, 0), False),  # what was always zero begins
        ((5, 5000), (0, 0), True),
    ],
)
def test_a_median_is_suspected_when_it_is_far_by_factor_and_by_scale(
    median: tuple[float, float], scale: tuple[float, float], suspected: bool
) -> None:
    found = FieldDrift("x", (100, 100), ALIKE, None, Change(*median), Change(*scale))
    assert [each.figure for each in suspect(ALIKE, [found], RULES)] == ["median"] * suspected


@pytest.mark.parametrize(
    ("share", "suspected"),
    [((0, 0.5), False), ((0, 0.51), True), ((0.6, 1), True), ((0.6, 0.7), False), ((1, 1), False)],
)
def test_what_goes_missing_is_measured_by_what_was_there(share: tuple[float, float], suspected: bool) -> None:
    found = FieldDrift("x", (100, 100), Change(*share))
    assert bool(suspect(ALIKE, [found], RULES)) == suspected
    assert bool(suspect(Change(*share), [], RULES)) == suspected


def test_what_is_stuck_is_told_with_a_figure_that_documents_hold() -> None:
    stuck = FieldDrift("x", (100, 100), ALIKE, None, None, Change(4, 0))
    assert suspect(ALIKE, [stuck], RULES) == (Suspicion(field="x", figure="scale", before=4, after=0),)
    assert Suspicion(field="x", figure="scale", before=1, after=float("inf")).after == LARGEST
