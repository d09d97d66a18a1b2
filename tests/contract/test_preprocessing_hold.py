"""A broken producer on a real broker: what it sends is held, and accepted or dropped once, whoever is killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from headrace.events.v1 import dataset_pb2, hold_pb2

from .lanes import keys, sound

pytestmark = [pytest.mark.contract, pytest.mark.timeout(600)]

Lanes = Callable[..., Any]
Start = Callable[..., Any]
Until = Callable[..., None]
HOLDING = (
    "{afterRecords: 60}\n  window: all\n  hold: {}\n  clean: {missing: keep}\n  transform: {depth: {impute: mean}}"
)
ACCEPT, DROP = hold_pb2.HOLD_VERDICT_ACCEPT, hold_pb2.HOLD_VERDICT_DROP


def measured(start: int, *, unit: float | None = 1.0) -> list[dict[str, Any]]:
    """Sixty records whose depths are in a unit; without one, they are gone."""
    return [{**row, "depth": unit and unit * (1 + row["key"] * 7 % 10)} for row in sound(start, start + 60)]


def told(lane: Any) -> list[tuple[str, str, int]]:
    """Return request, reason and state of each fact that no dataset came of."""
    facts = lane.facts(dataset_pb2.DatasetFailed)
    return [(fact.request_id, fact.reason, fact.held.state) for fact in facts]


def killed(child: Any, point: str, order: Callable[[], None]) -> None:
    """Kill the service at a point of what it is ordered."""
    child.arm(point)
    order()
    child.wait_held(point)
    child.kill()


def test_a_broken_producer_is_held_accepted_or_dropped_once_whoever_is_killed(
    lanes: Lanes, start: Start, until: Until
) -> None:
    lane = lanes(HOLDING)
    lane.apply()
    child = start()
    lane.send((0, measured(0)))
    until(lane.frozen)
    # Killed while a segment is held, after it was written and before that is told.
    lane.send((0, measured(60, unit=1_000)[:-1]))
    until(lambda: len(lane.rows()) == 119)
    killed(child, "commit", lambda: lane.request("held"))
    assert not lane.failed()
    child = start()
    until(lambda: len(lane.failed()) == 1)
    lane.send((1, measured(120, unit=None)))
    until(lambda: len(lane.failed()) == 2)
    # What is as it was before is learned; with what is held it is not compared.
    lane.send((0, measured(180)))
    until(lambda: len(lane.frozen()) == 2)

    unit, gone = lane.facts(dataset_pb2.DatasetFailed)
    assert unit.reason.startswith(f"segment {unit.held.segment_id} is held, and its 59 rows are part of no dataset: ")
    assert (unit.request_id, gone.request_id) == ("held", "")
    assert "field 'depth': the scale was 5, and is 5000" in unit.reason
    assert "field 'depth': the share that is missing was 0.0%, and is 100.0%" in gone.reason
    assert [(each.field, each.figure, each.before, each.after) for each in gone.held.suspicions] == [
        ("depth", "missing", 0, 1)
    ]
    assert [(each.partition, each.start, each.end) for each in gone.held.sources] == [(1, 0, 60)]
    later = lane.frozen()[1]
    assert sorted(keys(lane.dataset_rows(later))) == [*range(60), *range(180, 240)]
    assert (later.segments, later.segment_rows, later.held_rows) == (4, 239, 119)

    lane.settle("accept", unit.held.segment_id, ACCEPT)
    until(lambda: len(lane.frozen()) == 3)
    killed(child, "transaction", lambda: lane.settle("drop", gone.held.segment_id, DROP))
    assert [entry.segment_id for entry in lane.history().held] == [gone.held.segment_id]
    start()
    lane.settle("again", gone.held.segment_id, ACCEPT)
    lane.settle("none", "sha256:" + 64 * "0", DROP)
    until(lambda: len(lane.failed()) == 5)

    (accepted,) = lane.frozen()[2:]
    assert (accepted.request_id, accepted.held.segment_id) == ("accept", unit.held.segment_id)
    assert (accepted.held.state, accepted.held_rows) == (hold_pb2.HOLD_STATE_ACCEPTED, 60)
    assert sorted(keys(lane.dataset_rows(accepted))) == [*range(119), *range(180, 240)]
    dropped, again, none = told(lane)[2:]
    assert dropped == (
        "drop",
        f"segment {gone.held.segment_id} was dropped: its 60 rows are part of no dataset",
        hold_pb2.HOLD_STATE_DROPPED,
    )
    assert again[1] == f"the decision changed nothing: segment {gone.held.segment_id} was dropped before"
    assert none[1].endswith("is not part of the pipeline's history")
    assert [entry.held is None for entry in lane.history().entries] == [True, True, False, True]
    assert lane.history().held == ()
