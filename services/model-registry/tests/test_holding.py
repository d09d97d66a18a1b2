"""Segments that are held: what the catalogue knows of them, who may decide, and what becomes of a record in one."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from headrace_model_registry.core import fate, holding, queries
from headrace_model_registry.core.facts import DatasetFailed, PipelineDeleted, SourceRange
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.facts.hold import HeldSegment, Hold, HoldState, HoldVerdict, Suspicion
from headrace_model_registry.core.fate import HeldRow, RecordPlace
from headrace_model_registry.core.queries import ProgressBoard
from headrace_model_registry.core.state import State
from headrace_model_registry.core.stories import Stories
from headrace_runtime.errors import FailedPrecondition, InvalidInput, NotFound

SEGMENT, OTHER = "sha256:" + 64 * "a", "sha256:" + 64 * "b"
MOMENT = datetime(2026, 11, 29, tzinfo=UTC)
ACCEPT, DROP = HoldVerdict.ACCEPT, HoldVerdict.DROP


def told(segment_id=SEGMENT, state=HoldState.HELD, start=1000):
    return HeldSegment(
        segment_id,
        Artifact("file:///m", segment_id, 10),
        rows=500,
        sources=(SourceRange(0, start, start + 500),),
        suspicions=(Suspicion("x", "scale", 5, 5000),),
        state=state,
    )


def failed(held, request_id="", reason="it is held"):
    return DatasetFailed("digits", reason, request_id, held=held)


class Kept:
    """A topic of 3,000 records, and the rows of segments."""

    def starting_with(self, beginning, first_ms, last_ms):
        return {}

    def bounds_of(self, topic, partition):
        return (0, 3000)

    def rejection_of(self, pipeline, place, partition=None):
        return None

    def row_of(self, frozen, place):
        return HeldRow("train", MOMENT)

    def row_of_segment(self, segment, place):
        return None if place.offset == 1499 else HeldRow("", MOMENT)


@pytest.fixture
def fates(ledger):
    def of(offset):
        state = State()
        state.publish(ledger.catalogue)
        (found,) = Stories(state, Kept(), Kept(), Kept()).fates(RecordPlace("digits", 0, offset))
        return found

    return of


def test_a_held_segment_trains_nothing_and_is_told_until_it_is_decided_on(story, ledger):
    assert ledger.learn(failed(told())) == []
    assert ledger.learn(failed(told(OTHER, start=1500))) == []
    catalogue = ledger.catalogue
    assert [each.segment.segment_id for each in holding.listed(catalogue)] == [SEGMENT, OTHER]
    first, _ = holding.troubles(catalogue)
    assert (first.pipeline, first.part, first.subject) == ("digits", "segment", f"segment {SEGMENT}")
    assert first.reason == "it is held"
    status = queries.status(catalogue, ProgressBoard(), "digits")
    assert (status.failure, len(status.held)) == ("it is held", 2)

    # Dropping is what was asked for, and no failure.
    ledger.learn(failed(told(OTHER, HoldState.DROPPED, 1500), "drop", "it was dropped"))
    assert queries.status(ledger.catalogue, ProgressBoard(), "digits").failure == ""
    assert [each.segment.state for each in holding.listed(ledger.catalogue)] == [HoldState.HELD, HoldState.DROPPED]
    assert [each.reason for each in holding.listed(ledger.catalogue)] == ["it is held", "it is held"]
    assert len(list(holding.troubles(ledger.catalogue))) == 1


def test_the_dataset_of_an_accepted_segment_is_trained_on(story, ledger, world):
    ledger.learn(failed(told()))
    accepted = replace(world.frozen(story.applied, 2, "accept"), held=told(state=HoldState.ACCEPTED))
    (request,) = ledger.learn(accepted)
    assert request.dataset.dataset_id == accepted.dataset_id
    assert holding.listed(ledger.catalogue) == []


def test_one_that_counts_and_makes_no_dataset_is_held_no_more(story, ledger):
    ledger.learn(failed(told()))
    ledger.learn(failed(told(state=HoldState.ACCEPTED), "accept", "no dataset came of it"))
    assert holding.listed(ledger.catalogue) == []
    assert ledger.catalogue.failures["digits"].reason == "no dataset came of it"


def test_only_what_is_held_can_be_decided_on(story, ledger):
    ledger.learn(failed(told()))
    ledger.learn(failed(told(OTHER)))
    ledger.learn(failed(told(OTHER, HoldState.DROPPED), "drop"))
    holding.require_held(ledger.catalogue, "digits", Hold(SEGMENT, ACCEPT))
    with pytest.raises(FailedPrecondition, match="was dropped: it never counts"):
        holding.require_held(ledger.catalogue, "digits", Hold(OTHER, ACCEPT))
    with pytest.raises(NotFound, match=f"holds no segment 'sha256:c'; held are: {SEGMENT}"):
        holding.require_held(ledger.catalogue, "digits", Hold("sha256:c", DROP))
    with pytest.raises(InvalidInput, match="expected HOLD_VERDICT_ACCEPT or HOLD_VERDICT_DROP, got neither"):
        holding.require_held(ledger.catalogue, "digits", Hold(SEGMENT, HoldVerdict.UNSPECIFIED))


def test_a_record_in_a_held_segment_is_told_so_and_waits_no_more(story, ledger, world, fates):
    ledger.learn(world.frozen(story.applied))
    assert fates(1200).waiting
    ledger.learn(failed(told()))
    found = fates(1200)
    assert (found.held_segment, found.hold_state, found.event_time) == (SEGMENT, HoldState.HELD, MOMENT)
    assert not found.waiting
    ledger.learn(failed(told(state=HoldState.DROPPED), "drop"))
    assert fates(1200).hold_state is HoldState.DROPPED
    # Of its range, and no row of it: a rule dropped it, and no dead letter is left.
    assert (fates(1499).held_segment, fates(1499).waiting) == ("", False)
    assert (fates(900).dataset_id != "", fates(900).held_segment) == (True, "")
    assert fates(1600).waiting


def test_what_is_held_goes_with_its_pipeline(story, ledger):
    ledger.learn(failed(told()))
    ledger.learn(PipelineDeleted("digits", 0))
    assert holding.listed(ledger.catalogue) == []
    (gone,) = ledger.catalogue.departed.values()
    assert holding.covering(gone, "digits", RecordPlace("digits", 0, 1000))[0].segment_id == SEGMENT
    assert fate.readers(gone, "digits") == ["digits"]
