"""The ledger of privacy: what runs on a topic may have told of a row adds up, and what tells too much never begins."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts, ledger, specs
from headrace_model_registry.core.queries import ProgressBoard
from headrace_model_registry.core.queries import status as status_of
from headrace_model_registry.core.records import RunState
from headrace_model_registry.transport.converters import from_log_entry, to_log_entry

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def private(story, epsilon=2, total=5, name="digits", seed=7, topic="digits", **changes):
    """Return the story of a pipeline with privacy, just applied, and what was decided then."""
    said = f"epsilon: {epsilon}, delta: 0.0001" + (f", total: {total}" if total else "")
    document = story.world.document(name=name, topic=topic, seed=f"{seed}\n  privacy: {{{said}}}", **changes)
    pipeline = load_pipeline(document)
    applied = facts.PipelineApplied(name, facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest), 3)
    return replace(story, applied=applied), story.ledger.learn(applied)


def spent(story, topic="digits"):
    found = ledger.spent(story.ledger.catalogue, topic)
    return found.runs, pytest.approx(found.epsilon), pytest.approx(found.delta)


def end(story, request):
    """Release what a run gives: the next may begin."""
    compression = story.ledger.decide(story.world.trained(request))
    return story.ledger.learn(story.world.compressed(compression, right=150, champion_right=100))


def test_runs_begin_until_the_next_would_go_beyond_the_total(story):
    story, _ = private(story)
    for number in (1, 2):
        end(story, story.train(number))
    assert spent(story) == (2, 4.0, 0.0002)
    refused = story.train(3)
    assert isinstance(refused, facts.TrainingRefused)
    assert "topic 'digits' to spend an epsilon of at most 5 of each row, got 2 beside 4 of 2 runs" in refused.reason
    assert spent(story) == (2, 4.0, 0.0002)
    run = story.ledger.catalogue.runs[refused.run_id]
    assert (run.state, run.reason, run.never_began) == (RunState.FAILED, refused.reason, True)


def test_status_says_why_a_run_was_refused_until_one_begins(story):
    story, _ = private(story, epsilon=3)
    end(story, story.train(1))
    refused = story.train(2)
    shown = status_of(story.ledger.catalogue, ProgressBoard(), "digits")
    assert [(run.state, run.reason) for run in shown.runs] == [(RunState.FAILED, refused.reason)]
    (trouble,) = ledger.troubles(story.ledger.catalogue, NOW)
    assert (trouble.pipeline, trouble.part, trouble.reason) == ("digits", "privacy", refused.reason)

    story, decided = private(story, epsilon=3, total=6)
    assert [type(each) for each in decided] == [facts.TrainingRequested]
    assert list(ledger.troubles(story.ledger.catalogue, NOW)) == []


def test_raising_the_total_trains_nothing_again(story):
    story, _ = private(story, total=5)
    request = story.train(1)
    end(story, request)
    story, decided = private(story, total=50)
    assert decided == []
    frozen = story.world.frozen(story.applied, 1)
    assert specs.training_run_id(frozen, story.applied.spec) == request.run_id
    other, _ = private(story, epsilon=3)
    assert specs.training_run_id(frozen, other.applied.spec) != request.run_id


def test_what_failed_is_counted_for_nobody_knows_what_it_told(story):
    story, _ = private(story)
    story.fail(1)
    assert spent(story) == (1, 2.0, 0.0001)


def test_a_topic_has_one_ledger_whoever_reads_it_and_whoever_was_deleted(story):
    first, _ = private(story)
    end(first, first.train(1))
    other, _ = private(story, name="other")
    end(other, other.train(1))
    far, _ = private(story, name="far", topic="elsewhere")
    assert isinstance(far.train(1), facts.TrainingRequested)
    story.ledger.learn(facts.PipelineDeleted("other", 0))
    assert spent(first) == (2, 4.0, 0.0002)
    assert isinstance(first.train(2), facts.TrainingRefused)


def test_runs_without_privacy_are_not_counted_and_never_refused(story):
    end(story, story.train(1))
    assert spent(story) == (0, 0.0, 0.0)
    story, decided = private(story, epsilon=9, total=None)
    assert [type(each) for each in decided] == [facts.TrainingRequested]
    assert spent(story) == (1, 9.0, 0.0001)


def test_a_held_run_is_looked_at_when_it_begins(story):
    story, _ = private(story, epsilon=3)
    request = story.train(1)
    assert isinstance(story.train(2), facts.TrainingHeld)
    assert spent(story) == (1, 3.0, 0.0001)
    assert [type(each) for each in end(story, request)] == [facts.ModelReleased, facts.TrainingRefused]
    assert not story.ledger.catalogue.is_busy("digits")


def test_a_run_that_waited_when_its_pipeline_was_deleted_spent_nothing(story):
    story, _ = private(story)
    story.train(1)
    assert isinstance(story.train(2), facts.TrainingHeld)
    story.ledger.learn(facts.PipelineDeleted("digits", 0))
    assert spent(story) == (1, 2.0, 0.0001)


def test_ten_tenths_are_no_more_than_one(story):
    story, _ = private(story, epsilon=0.1, total=1)
    for number in range(1, 11):
        end(story, story.train(number))
    assert isinstance(story.train(11), facts.TrainingRefused)


def test_the_log_keeps_a_refusal(story):
    story, _ = private(story, epsilon=3)
    end(story, story.train(1))
    story.train(2)
    entry = story.ledger.log[-1]
    assert isinstance(entry.event, facts.TrainingRefused)
    assert from_log_entry(to_log_entry(entry)) == entry
