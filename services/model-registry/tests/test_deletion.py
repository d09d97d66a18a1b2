"""The end of a pipeline, what still arrives of it, and what is told of it; and a new one of its name."""

import pytest
from headrace_model_registry.core import facts, queries
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.objections import Objection
from headrace_model_registry.core.progress import DatasetProgressed
from headrace_model_registry.core.queries import ProgressBoard
from headrace_model_registry.core.records import RunState
from headrace_model_registry.core.wishes import Rollback


@pytest.fixture
def released(story):
    return story.release(1)


def delete(ledger, name="digits", incarnation=0):
    return ledger.learn(facts.PipelineDeleted(name, incarnation))


def listed(catalogue, name="digits"):
    return [
        queries.pipelines(catalogue, name),
        queries.datasets(catalogue, name),
        queries.runs(catalogue, ProgressBoard(), name),
        queries.versions(catalogue, name),
        queries.releases(catalogue, name),
    ]


def test_a_deleted_pipeline_leaves_nothing_but_its_past(released, ledger):
    before = listed(ledger.catalogue)
    assert delete(ledger) == [facts.ModelWithdrawn("digits", "champion", 1, "digits")]
    assert listed(ledger.catalogue) == [[], [], [], [], []]
    assert ledger.catalogue.champion("digits") is None
    assert listed(ledger.catalogue.departed["digits", 0]) == before
    again = Catalogue()
    for entry in ledger.log:
        again.fold(entry)
    assert again == ledger.catalogue


def test_only_a_pipeline_that_is_there_is_deleted(released, ledger):
    assert delete(ledger, "other") == Objection("pipeline other was never applied")
    delete(ledger)
    assert delete(ledger) == Objection("pipeline digits was deleted")


def test_an_alias_of_another_pipeline_stays(released, story, world, ledger):
    other = world.applied(name="other")
    ledger.learn(other)
    request = ledger.decide(world.trained(ledger.decide(world.frozen(other)), model="digits"))
    second = ledger.decide(world.compressed(request))
    assert delete(ledger) == []
    assert ledger.catalogue.champion("digits").trained.version_id == second.version_id
    assert ledger.grant(Rollback("digits")).reason.startswith("there is no release of model digits before")
    assert delete(ledger, "other") == [facts.ModelWithdrawn("digits", "champion", 2, "other")]


@pytest.mark.parametrize("again", [False, True])
def test_what_still_arrives_of_a_deleted_pipeline_changes_nothing(story, world, ledger, again):
    training = story.train(1)
    held = ledger.decide(world.frozen(story.applied, 2))
    delete(ledger)
    gone = ledger.catalogue.departed["digits", 0]
    assert [run.state for run in gone.runs.values()] == [RunState.FAILED] * 2
    assert [run.reason for run in gone.runs.values()] == ["the pipeline was deleted"] * 2
    if again:
        assert ledger.learn(world.next_life(story.applied)) == []
    late = (
        world.trained(training),
        world.failed(training),
        world.failed(held),
        world.frozen(story.applied, 3),
        facts.DatasetFailed("digits", "no rows"),
        facts.DatasetRequested("digits", "r1"),
    )
    before = ledger.catalogue
    assert all(isinstance(ledger.learn(fact), Objection) for fact in late)
    assert ledger.catalogue == before


def test_a_version_that_was_being_measured_is_never_released(story, world, ledger):
    request = story.compress()
    delete(ledger)
    ledger.learn(world.next_life(story.applied))
    assert ledger.learn(world.compressed(request)).reason == f"the pipeline digits of run {request.run_id} was deleted"


def test_a_pipeline_of_the_same_name_begins_anew(released, story, world, ledger):
    delete(ledger)
    anew = world.next_life(story.applied)
    assert ledger.learn(anew) == []
    first_life = ledger.catalogue.departed["digits", 0]
    # The same rows: the dataset has the same id, and yet it is trained on.
    training = ledger.decide(world.frozen(anew, 1))
    assert training.run_id not in first_life.runs
    request = ledger.decide(world.trained(training))
    assert request.champion is None
    assert request.run_id not in first_life.runs
    second = ledger.decide(world.compressed(request))
    assert (second.epoch, second.ordinal) == (released.epoch + 1, released.ordinal + 1)
    assert len(ledger.catalogue.releases) == 1
    assert delete(ledger, incarnation=1) == [facts.ModelWithdrawn("digits", "champion", 2, "digits")]
    assert ledger.catalogue.incarnation("digits") == 2


def test_an_apply_that_a_deletion_overtook_is_refused(story, world, ledger):
    delete(ledger)
    assert ledger.learn(world.applied(seed=8)).reason == "pipeline digits was deleted meanwhile: apply it again"


def test_a_rollback_never_goes_back_to_a_deleted_pipeline(released, story, world, ledger):
    delete(ledger)
    assert ledger.grant(Rollback("digits")).reason == "nothing of model digits was released yet"
    anew = world.next_life(story.applied)
    ledger.learn(anew)
    ledger.decide(world.compressed(ledger.decide(world.trained(ledger.decide(world.frozen(anew))))))
    assert "there is no release of model digits before version 2" in ledger.grant(Rollback("digits")).reason
    assert "version 1 of model digits was never released" in ledger.grant(Rollback("digits", 1)).reason


def test_progress_of_the_deleted_pipeline_is_not_shown_as_the_new_one_s(story, world, ledger):
    board = ProgressBoard().showing(DatasetProgressed("digits", 12))
    delete(ledger)
    ledger.learn(world.next_life(story.applied))
    assert queries.status(ledger.catalogue, board, "digits").filling is None
    board = board.showing(DatasetProgressed("digits", 3, incarnation=1))
    assert queries.status(ledger.catalogue, board, "digits").filling.rows == 3


def test_runs_of_pipelines_that_were_never_deleted_keep_their_ids(story):
    assert story.train().run_id == "train-c0a4785986be49ab89cdaf9278fe06c7"
