from datetime import UTC, datetime, timedelta

from headrace_model_registry.core import facts, queries
from headrace_model_registry.core.facts import RunKind
from headrace_model_registry.core.progress import DatasetProgressed, PipelineTroubled, RunProgressed
from headrace_model_registry.core.queries import PipelineStatus, ProgressBoard
from headrace_model_registry.core.records import RunState, VersionState

EMPTY = ProgressBoard()
START = datetime(2026, 1, 1, tzinfo=UTC)
SOON, LATE = timedelta(seconds=299), timedelta(seconds=300)


def progress(run_id, step, attempt=1):
    return RunProgressed(run_id, "digits", RunKind.TRAINING, attempt, step, 40, {"train_loss": 1 / step}, 2.5)


def test_a_pipeline_that_was_just_applied_has_nothing_to_show(story, ledger):
    assert queries.status(ledger.catalogue, EMPTY, "digits") == PipelineStatus(None, None, (), None, None, "")


def test_a_status_follows_the_latest_dataset_to_its_release(story, world, ledger):
    first = story.release(1)
    training = story.train(2)
    status = queries.status(ledger.catalogue, EMPTY, "digits")
    assert status.dataset.frozen.dataset_id == training.dataset.dataset_id
    assert [(run.run_id, run.state) for run in status.runs] == [(training.run_id, RunState.RUNNING)]
    assert status.version is None
    assert status.release.released == first

    request = ledger.decide(world.trained(training))
    status = queries.status(ledger.catalogue, EMPTY, "digits")
    assert [run.kind for run in status.runs] == [RunKind.TRAINING, RunKind.COMPRESSION]
    assert (status.version.ordinal, status.version.state) == (2, VersionState.CANDIDATE)

    second = ledger.decide(world.compressed(request))
    status = queries.status(ledger.catalogue, EMPTY, "digits")
    assert all(run.state is RunState.SUCCEEDED and run.end_time for run in status.runs)
    assert status.version.state is VersionState.RELEASED
    assert status.release.released == second


def test_a_status_tells_why_a_run_failed(story, world, ledger):
    ledger.learn(world.failed(story.train(), "out of memory"))
    (run,) = queries.status(ledger.catalogue, EMPTY, "digits").runs
    assert (run.state, run.reason) == (RunState.FAILED, "out of memory")


def test_a_dataset_that_a_mended_spec_is_trained_on_is_shown_as_that_spec_s(story, world, ledger):
    failed = story.train()
    ledger.learn(world.failed(failed))
    mended = story.changed(seed=8)
    (training,) = mended.decided
    status = queries.status(ledger.catalogue, EMPTY, "digits")
    assert status.dataset.frozen.dataset_id == failed.dataset.dataset_id
    assert status.dataset.frozen.spec_digest == mended.applied.spec.digest
    assert [(run.run_id, run.state) for run in status.runs] == [(training.run_id, RunState.RUNNING)]
    assert queries.datasets(ledger.catalogue)[-1].frozen.spec_digest == story.applied.spec.digest

    released = ledger.decide(world.compressed(ledger.decide(world.trained(training))))
    status = queries.status(ledger.catalogue, EMPTY, "digits")
    assert status.dataset.frozen.spec_digest == mended.applied.spec.digest
    assert [run.kind for run in status.runs] == [RunKind.TRAINING, RunKind.COMPRESSION]
    assert status.version.trained.version_id == status.release.released.version_id == released.version_id


def test_what_another_spec_made_of_the_same_rows_is_not_shown(story, world, ledger):
    first = story.release()
    failed = story.changed(seed=8)
    ledger.learn(world.failed(failed.decided[0], "diverged"))
    status = queries.status(ledger.catalogue, EMPTY, "digits")
    assert [(run.run_id, run.reason) for run in status.runs] == [(failed.decided[0].run_id, "diverged")]
    assert status.version is None
    story.changed()
    status = queries.status(ledger.catalogue, EMPTY, "digits")
    assert [run.state for run in status.runs] == [RunState.SUCCEEDED] * 2
    assert status.version.trained.version_id == first.version_id


def test_a_spec_that_trains_alike_still_waits_for_a_dataset_of_its_own(story, ledger):
    story.release()
    other = story.changed(cache="off")
    assert other.decided == ()
    status = queries.status(ledger.catalogue, EMPTY, "digits")
    assert status.dataset.frozen.spec_digest == story.applied.spec.digest
    assert status.version is not None


def test_progress_is_shown_beside_the_run(story, ledger):
    training = story.train()
    board = EMPTY.showing(DatasetProgressed("digits", 5, 100)).showing(progress(training.run_id, 3))
    status = queries.status(ledger.catalogue, board, "digits")
    assert status.filling == DatasetProgressed("digits", 5, 100)
    assert status.runs[0].progress.step == 3


def test_the_latest_progress_is_shown_and_never_an_older_attempt_s():
    board = EMPTY
    for each in (progress("r", 5), progress("r", 1, attempt=2), progress("r", 6)):
        board = board.showing(each)
    assert (board.runs["r"].attempt, board.runs["r"].step) == (2, 1)
    assert EMPTY.runs == {}


def test_lists_are_in_the_order_of_the_log_and_can_be_narrowed(story, world, ledger):
    other = world.applied(name="a-other")
    ledger.learn(other)
    story.release(1)
    training = ledger.decide(world.frozen(other))
    request = ledger.decide(world.trained(training, model="shared"))
    ledger.decide(world.compressed(request))
    catalogue = ledger.catalogue

    assert [applied.pipeline for applied in queries.pipelines(catalogue)] == ["a-other", "digits"]
    assert queries.pipelines(catalogue, "digits") == [story.applied]
    assert [dataset.frozen.pipeline for dataset in queries.datasets(catalogue)] == ["digits", "a-other"]
    assert len(queries.datasets(catalogue, "a-other")) == 1
    assert [run.pipeline for run in queries.runs(catalogue, EMPTY)] == ["digits", "digits", "a-other", "a-other"]
    assert {run.pipeline for run in queries.runs(catalogue, EMPTY, "a-other")} == {"a-other"}
    assert [version.trained.model for version in queries.versions(catalogue)] == ["digits", "shared"]
    assert len(queries.versions(catalogue, "shared")) == 1
    assert [release.released.model for release in queries.releases(catalogue)] == ["digits", "shared"]
    assert queries.releases(catalogue, "none of these") == []


def test_a_dataset_that_is_frozen_again_becomes_the_latest(story, world, ledger):
    story.train(1)
    story.train(2)
    again = world.frozen(story.applied, 1, request_id="again")
    # What is wanted now was done before: the run that waits for the other dataset gives way.
    (superseded,) = ledger.learn(again)
    assert isinstance(superseded, facts.TrainingSuperseded)
    assert queries.datasets(ledger.catalogue)[-1].frozen == again
    assert queries.status(ledger.catalogue, EMPTY, "digits").dataset.frozen == again
    assert isinstance(again, facts.DatasetFrozen)


def test_a_trouble_is_shown_until_it_is_over_or_not_told_again(story, ledger):
    def trouble(reason, subject="", valid_s=0, pipeline="digits"):
        return PipelineTroubled(pipeline, "ingestion.digits", "0", subject, reason, START, valid_s)

    board = EMPTY.showing(trouble("fails", valid_s=300)).showing(trouble("lost", "digits:0:7"))
    board = board.showing(trouble("of a pipeline that is gone", pipeline="old"))
    told = [[one.reason for one in queries.troubles(ledger.catalogue, board, START + age)] for age in (SOON, LATE)]
    assert told == [["fails", "lost"], ["lost"]]
    over = board.showing(trouble(""))
    assert [one.reason for one in queries.troubles(ledger.catalogue, over, START + SOON)] == ["lost"]


def test_a_trouble_of_the_last_year_is_shown_like_any_other(story, ledger):
    last = datetime.max.replace(tzinfo=UTC)
    trouble = PipelineTroubled("digits", "ingestion.digits", "0", "", "fails", last, 2**32 - 1)
    assert queries.troubles(ledger.catalogue, EMPTY.showing(trouble), START) == [trouble]
