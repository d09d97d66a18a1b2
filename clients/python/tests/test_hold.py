"""`hold`: what is suspected is listed, and accepted or dropped."""

from __future__ import annotations

import json

import pytest
from headrace.events.v1 import hold_pb2
from headrace.registry.v1 import registry_service_pb2 as messages

from .answers import Answers

HELD, DROPPED = hold_pb2.HOLD_STATE_HELD, hold_pb2.HOLD_STATE_DROPPED
ONE, OTHER = f"sha256:a{'0' * 63}", f"sha256:b{'1' * 63}"


def held(segment_id: str = ONE, state: hold_pb2.HoldState.ValueType = HELD) -> messages.Held:
    suspicions = [
        hold_pb2.Suspicion(field="wind", figure="scale", before=5, after=5012.4),
        hold_pb2.Suspicion(figure="rejected", before=0.012, after=0.75),
    ]
    segment = hold_pb2.HeldSegment(segment_id=segment_id, rows=500, suspicions=suspicions, state=state)
    return messages.Held(pipeline="digits", segment=segment, reason="it is held")


@pytest.fixture(autouse=True)
def holds(monkeypatch):
    """The segments that the registry lists: made before it is served."""
    found: list[messages.Held] = []
    monkeypatch.setattr(Answers, "held", found)
    return found


def test_what_is_held_is_listed_with_what_was_and_what_is(headrace, registry, holds):
    assert "no segment is held" in headrace("hold", "list").output
    holds.extend([held(), held(OTHER, DROPPED)])
    told = headrace("hold", "list", "digits").output
    for word in ("a0000000", "b1111111", "dropped", "500", "wind scale 5 → 5012; rejected 1.2% → 75.0%"):
        assert word in " ".join(told.split())
    view = json.loads(headrace("hold", "list", "--json").stdout)[0]
    assert (view["segment_id"], view["state"], view["rows"]) == (ONE, "held", 500)
    assert view["suspicions"][1] == {"field": None, "figure": "rejected", "before": 0.012, "after": 0.75}


def test_the_only_one_is_accepted_and_its_dataset_named(headrace, registry, canned, holds):
    holds.extend([held(), held(OTHER, DROPPED)])
    dataset = canned.dataset()
    dataset.frozen.request_id = "request-7"
    registry.states = [messages.WatchPipelineResponse(dataset=dataset)]
    told = headrace("hold", "accept", "digits")
    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines() == [
        f"segment {ONE} counts from now on",
        f"dataset {dataset.frozen.dataset_id}",
    ]
    (asked,) = [one.hold for one in registry.requests if isinstance(one, messages.FreezeDatasetRequest)]
    assert (asked.segment_id, asked.verdict) == (ONE, hold_pb2.HOLD_VERDICT_ACCEPT)


def test_one_of_several_is_dropped_by_the_beginning_of_its_id(headrace, registry, holds):
    holds.extend([held(), held(OTHER)])
    refused = headrace("hold", "drop", "digits")
    assert refused.exit_code != 0
    assert "expected the beginning of one segment's id, got '', which fits 2" in " ".join(refused.output.split())
    registry.states = [messages.WatchPipelineResponse(held=[held(OTHER, DROPPED)])]
    told = headrace("hold", "drop", "digits", "b11", "--json")
    assert json.loads(told.stdout) == {"pipeline": "digits", "segment_id": OTHER, "state": "dropped"}


@pytest.mark.parametrize(("state", "word"), [(HELD, "is held"), (DROPPED, "was dropped")])
def test_a_record_in_a_held_segment_is_told_so(headrace, registry, state, word):
    registry.fates = [messages.RecordFate(pipeline="digits", held_segment=ONE, hold_state=state)]
    told = " ".join(headrace("where", "scans:0:17").output.split())
    assert "in segment a0000000" in told.replace("sha256:", "")
    assert word in told


def test_what_came_to_nothing_is_told(headrace, registry, holds):
    assert "holds no segment" in headrace("hold", "drop", "digits").output
    holds.append(held())
    registry.states = [messages.WatchPipelineResponse(failure="the decision changed nothing: it is gone")]
    told = headrace("hold", "accept", "digits")
    assert told.exit_code != 0
    assert "the decision changed nothing: it is gone" in " ".join(told.output.split())
