"""What a run begins from: looked up when it is planned, kept while it may be begun from, and told afterwards."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts, lineage, origins
from headrace_model_registry.core.queries import ProgressBoard
from headrace_model_registry.core.roots import RUN, roots
from headrace_model_registry.core.wishes import Retirement

LATER = datetime(2026, 6, 1, tzinfo=UTC)


def beginning(story, origin, name="digits", more=""):
    """Return the story once its pipeline says what its runs begin from, and the decisions that followed."""
    document = story.world.document(name=name, seed=f"7\n  from: {origin}").decode() + more
    pipeline = load_pipeline(document)
    applied = facts.PipelineApplied(name, facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest), 3)
    return replace(story, applied=applied), story.ledger.learn(applied)


def version(story, ordinal):
    return next(each.trained for each in story.ledger.catalogue.versions.values() if each.ordinal == ordinal)


def test_the_first_run_begins_from_the_seed_and_later_ones_from_the_champion(story, ledger):
    tuned, _ = beginning(story, "champion")
    assert tuned.train(1).origin is None
    ledger.learn(story.world.compressed(ledger.decide(story.world.trained(tuned_request(ledger)))))
    champion = ledger.catalogue.champion("digits").trained
    request = tuned.train(2)
    assert (request.origin.version_id, request.origin.weights) == (champion.version_id, champion.weights)
    assert request.origin.dataset.dataset_id == champion.dataset_id


def tuned_request(ledger):
    return next(run.request for run in ledger.catalogue.runs.values())


def test_a_run_that_was_held_begins_from_what_is_released_when_it_begins(story, world, ledger):
    tuned, _ = beginning(story, "champion")
    first = tuned.release(1)
    compression = tuned.compress(2)
    (held,) = ledger.learn(world.frozen(tuned.applied, 3))
    assert isinstance(held, facts.TrainingHeld)
    released, request = ledger.learn(world.compressed(compression, right=145))
    assert isinstance(released, facts.ModelReleased)
    assert request.origin.version_id == released.version_id != first.version_id


def test_the_same_rows_and_spec_are_not_trained_on_again_because_another_is_champion(story, world, ledger):
    tuned, _ = beginning(story, "champion")
    tuned.release(1)
    frozen = world.frozen(tuned.applied, 1, request_id="again")
    assert ledger.learn(frozen) == []
    assert ledger.learn(world.applied(agreement=0.9, seed="7\n  from: champion")) == []


def test_a_version_is_named_by_its_number_or_with_its_pipeline(story, world, ledger):
    story.release(1)
    story.release(2, right=145)
    _, decided = beginning(story, 1)
    assert [each.origin.version_id for each in decided] == [version(story, 1).version_id]
    other, _ = beginning(story, "digits/1", name="other")
    assert other.train(1).origin.version_id == version(story, 1).version_id
    third, _ = beginning(story, "digits/champion", name="third")
    assert third.train(1).origin.version_id == ledger.catalogue.champion("digits").trained.version_id


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("champion", ""),
        ("1", ""),
        ("digits/1", ""),
        ("digits/champion", ""),
        ("2", "train.from: expected a version of model 'digits' that is kept, got 2; known are: 1"),
        ("letters/1", "train.from: expected a pipeline that is in force, got 'letters'; known are: digits"),
    ],
)
def test_a_version_that_is_not_there_is_told_when_the_pipeline_is_applied(story, world, ledger, origin, expected):
    story.release(1)
    pipeline = load_pipeline(world.document(seed=f"7\n  from: {origin}"))
    assert origins.objection(pipeline, ledger.catalogue) == expected


def test_what_specs_name_is_retained_and_what_live_runs_begin_from_is_not_collected(story, world, ledger):
    story.release(1)
    story.release(2, right=145)
    story.release(3, right=146)
    _, (request,) = beginning(story, 1, more="retain: {versions: 1}\n")
    # 3 is served, 2 would be by a rollback, and 1 is named.
    assert ledger.grant(Retirement(LATER)).repeated
    kept = roots(ledger.catalogue, {}, LATER)
    assert request.origin.weights in kept.artifacts
    ledger.learn(world.failed(request))
    beginning(story, "champion", more="retain: {versions: 1}\n")
    champion_run = next(reversed(ledger.catalogue.runs.values())).request
    assert champion_run.origin.version_id == version(story, 3).version_id
    (gone,) = ledger.grant(Retirement(LATER))
    assert gone.version_id == version(story, 1).version_id


def test_what_a_live_run_began_from_is_kept_when_its_version_is_retired(story, world, ledger):
    story.release(1)
    _, (request,) = beginning(story, "champion")
    # As if the version and its pipeline's other versions had been let go meanwhile.
    trained = version(story, 1)
    ledger.write(facts.VersionRetired("digits", "digits", trained.version_id))
    ledger.catalogue.aliases.clear()
    kept = roots(ledger.catalogue, {}, LATER + timedelta(days=1))
    assert kept.artifacts[trained.weights] == RUN
    assert request.origin.dataset.manifest in kept.documents


def test_a_lineage_says_what_was_begun_from(story, world, ledger):
    tuned, _ = beginning(story, "champion")
    tuned.release(1)
    trained = world.trained(tuned.train(2))
    ledger.learn(trained)
    found = lineage.of_thing(ledger.catalogue, ProgressBoard(), trained.version_id)
    assert found.origin.ordinal == 1
    assert found.runs[0].origin == found.origin.trained.version_id
    of_run = lineage.of_thing(ledger.catalogue, ProgressBoard(), trained.run_id)
    assert of_run.origin == found.origin
