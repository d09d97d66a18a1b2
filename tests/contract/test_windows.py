"""Windows on a real broker: datasets of several cuts, and what a changed spec makes of the segments that exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .lanes import keys, ranges, sound

pytestmark = [pytest.mark.contract, pytest.mark.timeout(600), pytest.mark.usefixtures("preprocessing")]

Lanes = Callable[..., Any]
Until = Callable[..., None]
FILLED = "{depth: {impute: mean}}"


def test_a_window_of_all_rows_grows_by_each_cut_and_shares_their_files(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 40}")
    lane.prepare("window", "all")
    lane.apply()
    lane.send((0, sound(0, 40)))
    until(lane.frozen)
    # Too few for each split to have a row of its own: a window has those of earlier cuts.
    lane.send((1, sound(40, 42)))
    until(lambda: len(lane.rows()) == 42)
    lane.request("few")
    until(lambda: len(lane.frozen()) == 2)

    first, second = lane.frozen()
    assert sorted(keys(lane.dataset_rows(second))) == list(range(42))
    manifests = [lane.manifest(each) for each in (first, second)]
    assert [len(manifest.slices) for manifest in manifests] == [1, 2]
    assert first.dataset_id == manifests[1].slices[0].segment_id != second.dataset_id
    assert {part.digest for part in manifests[0].parts} < {part.digest for part in manifests[1].parts}
    assert ranges(second.sources) == [(0, 0, 40), (1, 0, 2)]
    assert sum(getattr(second.rows, name) for name in ("train", "validation", "test")) == 42


def test_a_changed_split_makes_a_dataset_of_the_segments_that_exist(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 40}")
    lane.apply()
    for start in (0, 40):
        lane.send((0, sound(start, start + 40)))
        until(lambda start=start: len(lane.frozen()) == start // 40 + 1)
    lane.prepare("split", "{salt: other}")
    lane.apply()
    until(lambda: len(lane.frozen()) == 3)
    lane.prepare("window", "{rows: 60}")
    lane.apply()
    until(lambda: len(lane.frozen()) == 4)

    _, before, moved, wider = lane.frozen()
    assert sorted(keys(lane.dataset_rows(moved))) == list(range(40, 80))
    assert moved.dataset_id != before.dataset_id
    assert {part.digest for part in lane.manifest(moved).parts} == {part.digest for part in lane.manifest(before).parts}
    assert sum(getattr(wider.rows, name) for name in ("train", "validation", "test")) == 60
    assert set(range(40, 80)) < set(keys(lane.dataset_rows(wider)))
    assert not lane.failed()
    # What was applied and is there already is not made once more.
    lane.request("more")
    until(lane.failed)
    assert lane.failed() == [("more", "no clean record since the last dataset")]
    assert len(lane.frozen()) == 4


def test_a_new_feature_that_may_be_missing_is_missing_in_rows_of_before(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 40}\n  window: all\n  clean: {missing: keep}\n  transform: " + FILLED)
    lane.apply()
    lane.send((0, sound(0, 40)))
    until(lane.frozen)
    lane.send((0, sound(40, 50)))
    until(lambda: len(lane.rows()) == 50)
    lane.grow("{name: height, type: float32, role: feature, nullable: true}", "{impute: {constant: 0}}")
    lane.apply()
    until(lambda: len(lane.frozen()) == 2)
    lane.send((0, [row | {"height": 1.5} for row in sound(50, 80)]))
    until(lambda: len(lane.frozen()) == 3)

    _, grown, newest = (lane.manifest(each) for each in lane.frozen())
    assert [field.name for field in grown.fields] == ["key", "value", "depth", "height", "digit"]
    heights = {row["key"]: row["height"] for row in lane.dataset_rows(lane.frozen()[2])}
    assert heights == {key: None if key < 50 else 1.5 for key in range(80)}
    assert newest.rows == 80
    assert not lane.failed()


def test_rows_that_wait_are_cut_by_the_rules_of_the_cut(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 1000}")
    lane.apply()
    lane.send((0, sound(0, 60)))
    until(lambda: len(lane.rows()) == 60)
    # Of the digits 0 to 2, no row of 2 may be in a dataset from now on.
    lane.narrow("digit", "[0, 9]", "[0, 1]")
    lane.apply()
    lane.request("now")
    until(lane.frozen)

    (frozen,) = lane.frozen()
    assert {row["digit"] for row in lane.dataset_rows(frozen)} == {0, 1}
    assert dict(frozen.rejected) == {"outOfRange": 20}
    assert [letter.header("dead-rule") for letter in lane.dead()] == ["outOfRange"] * 20


def test_a_cut_whose_window_is_unusable_is_history_all_the_same(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 40}\n  window: all")
    lane.apply()
    lane.send((0, sound(0, 40, digits=1)))
    until(lane.failed)
    assert not lane.frozen()
    lane.send((0, sound(40, 80, digits=2)))
    until(lane.frozen)

    ((_, reason),) = lane.failed()
    assert reason.startswith("the rows are in the history, and no dataset came of the window: expected at least two")
    (frozen,) = lane.frozen()
    assert sorted(keys(lane.dataset_rows(frozen))) == list(range(80))
    assert (frozen.segments, frozen.segment_rows) == (2, 80)
