"""A version held against another on rows of the past: asked for, recorded, and nothing follows."""

import pytest
from headrace_model_registry.core import facts, queries
from headrace_model_registry.core.canary import listed
from headrace_model_registry.core.collection import Needed
from headrace_model_registry.core.facts import CanaryFigure, CanaryJudged, CanaryVerdict
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.objections import Objection
from headrace_model_registry.core.records import RunState, VersionState
from headrace_model_registry.core.roots import roots
from headrace_model_registry.core.wishes import Canary
from headrace_model_registry.transport.converters import from_log_entry, to_log_entry
from headrace_runtime.object_store import ObjectStore

HISTORY = Artifact("store/history", "sha256:" + "7" * 64, 1000)


@pytest.fixture
def asked(story, ledger):
    """Version 2, which was refused, is held against the champion."""
    story.release(1)
    ledger.learn(story.world.compressed(story.compress(2), right=139))
    (request,) = ledger.grant(Canary("digits", "2", "champion", 86_400, HISTORY))
    return request


def judged(request):
    figure = CanaryFigure("accuracy", 500, 0.91, 0.95, -0.06, -0.02)
    return CanaryJudged(
        request.run_id,
        request.pipeline,
        request.candidate.version_id,
        request.champion.version_id,
        rows=500,
        unseen_rows=300,
        segments=3,
        since_us=1,
        until_us=2,
        measure="accuracy",
        verdict=CanaryVerdict.WORSE,
        measures=(figure,),
    )


def test_both_versions_are_named_with_the_rows(asked, ledger):
    versions = [each.trained.version_id for each in ledger.catalogue.versions.values()]
    assert [asked.champion.version_id, asked.candidate.version_id] == versions
    assert asked.canary == facts.CanaryRows(HISTORY, 86_400)
    run = queries.runs(ledger.catalogue, queries.ProgressBoard())[-1]
    assert (run.kind, run.state) == (facts.RunKind.CANARY, RunState.RUNNING)
    assert not ledger.catalogue.is_busy("digits"), "nothing waits for it"
    assert HISTORY in roots(ledger.catalogue, {}, ledger.log[-1].occur_time).replayed


def test_what_came_of_it_is_recorded_and_moves_nothing(asked, ledger):
    before = ledger.catalogue.aliases
    assert ledger.learn(judged(asked)) == []
    assert ledger.catalogue.aliases == before
    (shown,) = listed(ledger.catalogue, "digits")
    assert (shown.ordinal, shown.champion_ordinal, shown.judged) == (2, 1, judged(asked))
    assert listed(ledger.catalogue, "other") == []
    assert "has ended" in ledger.learn(judged(asked)).reason
    entry = ledger.log[-1]
    assert from_log_entry(to_log_entry(entry)) == entry


def test_the_same_question_is_asked_once(asked, ledger):
    again = Canary("digits", asked.candidate.version_id[7:20], "1", 86_400, HISTORY)
    assert ledger.grant(again) == Objection(f"run {asked.run_id} does it", repeated=True)
    (other,) = ledger.grant(Canary("digits", "2", "champion", 3600, HISTORY))
    assert other.run_id != asked.run_id


def test_a_run_that_fails_leaves_the_version_what_it_was(story, ledger):
    story.release(1)
    story.compress(2)
    (request,) = ledger.grant(Canary("digits", "2", "champion", 60, HISTORY))
    ledger.learn(story.world.failed(request, "expected rows with labels in that time"))
    assert list(ledger.catalogue.versions.values())[1].state is VersionState.CANDIDATE
    (again,) = ledger.grant(Canary("digits", "2", "champion", 60, HISTORY))
    assert again == request


def test_a_history_that_is_gone_since_the_run_has_ended_stops_no_collection(asked, story, ledger, tmp_path):
    ledger.learn(story.world.failed(asked))
    ledger.learn(facts.PipelineDeleted("digits", 0))
    found = roots(ledger.catalogue, {}, ledger.log[-1].occur_time)
    assert found.replayed == [HISTORY], "what runs of a deleted pipeline read stays for some days"
    Needed(found, ObjectStore(str(tmp_path)))


def test_the_end_of_a_compression_is_none_of_a_canary(asked, story, ledger):
    assert "to hold a version against another" in ledger.learn(story.world.compressed(asked)).reason
    request = story.compress(3)
    assert "was asked for variants" in ledger.learn(judged(request)).reason


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (Canary("digits", "1", "champion", 60, HISTORY), "cannot be held against itself"),
        (Canary("digits", "9", "champion", 60, HISTORY), "no versions of model digits are called '9'"),
        (Canary("digits", "2", "candidate", 60, HISTORY), "are called 'candidate'"),
        (Canary("digits", "2", "champion", 60), "has no rows any more"),
        (Canary("other", "2", "champion", 60, HISTORY), "model other has no version"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(asked, ledger, wish, why):
    assert why in ledger.grant(wish).reason
