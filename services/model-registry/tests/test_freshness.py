"""Newer data wins: one candidate of a pipeline at a time, the newest dataset next, and no way back to older data."""

from dataclasses import replace

from headrace_model_registry.core import facts, queries
from headrace_model_registry.core.objections import Objection
from headrace_model_registry.core.queries import ProgressBoard
from headrace_model_registry.core.records import RunState, VersionState
from headrace_model_registry.core.training import AGAIN
from headrace_model_registry.core.wishes import Rollback

MANY = 50


def states(ledger):
    return [run.state for run in ledger.catalogue.runs.values() if run.kind is facts.RunKind.TRAINING]


def test_fifty_datasets_frozen_before_the_first_run_ends_make_two_runs(story, world, ledger):
    first = story.train(1)
    for number in range(2, MANY + 1):
        *superseded, held = ledger.learn(world.frozen(story.applied, number))
        assert isinstance(held, facts.TrainingHeld)
        assert [type(event) for event in superseded] == [facts.TrainingSuperseded] * (number > 2)
    assert states(ledger) == [RunState.RUNNING, *[RunState.SUPERSEDED] * (MANY - 2), RunState.WAITING]

    request = ledger.decide(world.trained(first))
    released, second = ledger.learn(world.compressed(request))
    assert isinstance(released, facts.ModelReleased)
    assert second.dataset.dataset_id == world.frozen(story.applied, MANY).dataset_id
    ledger.decide(world.compressed(ledger.decide(world.trained(second))))
    assert ledger.catalogue.champion("digits").trained.dataset_id == second.dataset.dataset_id
    assert RunState.WAITING not in states(ledger)
    assert RunState.RUNNING not in states(ledger)
    assert ledger.learn(world.frozen(story.applied, MANY + 1))[0].dataset.dataset_id != second.dataset.dataset_id


def test_what_waits_begins_after_a_failed_or_refused_candidate_too(story, world, ledger):
    story.release(1, right=140)
    failed = story.train(2)
    ledger.decide(world.frozen(story.applied, 3))
    (third,) = ledger.learn(world.failed(failed))
    ledger.decide(world.frozen(story.applied, 4))
    refused, fourth = ledger.learn(world.compressed(ledger.decide(world.trained(third)), right=100))
    assert isinstance(refused, facts.ModelRefused)
    ledger.decide(world.frozen(story.applied, 5))
    (fifth,) = ledger.learn(world.failed(ledger.decide(world.trained(fourth))))
    assert fifth.dataset.dataset_id == world.frozen(story.applied, 5).dataset_id


def test_a_superseded_run_names_the_one_in_its_place(story, world, ledger):
    story.train(1)
    second = ledger.decide(world.frozen(story.applied, 2))
    superseded, third = ledger.learn(world.frozen(story.applied, 3))
    assert superseded.run_id == second.run_id
    assert superseded.reason == f"run {third.run_id} on dataset {third.dataset.dataset_id} takes its place"
    run = ledger.catalogue.runs[second.run_id]
    assert (run.reason, run.end_time) == (superseded.reason, ledger.log[-1].occur_time)


def test_a_changed_spec_takes_the_place_of_what_waits_and_back_again(story, world, ledger):
    running = story.train(1)
    held = ledger.decide(world.frozen(story.applied, 2))
    superseded, mended = story.changed(seed=8).decided
    assert (superseded.run_id, mended.dataset) == (held.run_id, held.dataset)
    superseded, again = story.changed().decided
    assert (superseded.run_id, again) == (mended.run_id, held)
    (begun,) = ledger.learn(world.failed(running))
    assert (begun.run_id, begun.spec) == (held.run_id, story.applied.spec)


def test_pipelines_wait_for_their_own_candidates_only(story, world, ledger):
    story.train(1)
    other = world.applied(name="other")
    ledger.learn(other)
    assert isinstance(ledger.decide(world.frozen(other)), facts.TrainingRequested)


def test_a_waiting_dataset_is_shown_as_waiting(story, world, ledger):
    story.train(1)
    held = ledger.decide(world.frozen(story.applied, 2))
    status = queries.status(ledger.catalogue, ProgressBoard(), "digits")
    assert status.dataset.frozen.dataset_id == held.dataset.dataset_id
    assert [(run.run_id, run.state) for run in status.runs] == [(held.run_id, RunState.WAITING)]


def earlier(story, world, ledger, numbers, **changes):
    """Return the runs that a registry of before asked for all at once, a run for each dataset."""
    elsewhere = type(ledger)()
    elsewhere.learn(story.applied)
    requests = []
    for number in numbers:
        frozen = world.frozen(story.applied, number)
        request = elsewhere.decide(frozen)
        elsewhere.learn(world.failed(request))
        requests.append(request)
        ledger.write(frozen, request)
    return requests


def test_a_run_of_an_older_log_that_ends_last_replaces_nothing(story, world, ledger):
    oldest, middle, newest = earlier(story, world, ledger, (1, 2, 3))
    beside_nobody = ledger.decide(world.trained(middle))
    released = ledger.decide(world.compressed(ledger.decide(world.trained(newest))))
    assert isinstance(released, facts.ModelReleased)
    refused = ledger.decide(world.trained(oldest))
    assert isinstance(refused, facts.ModelRefused)
    assert refused.reason == (
        f"superseded: it learned from dataset {oldest.dataset.dataset_id}, and the champion, version 2, from newer "
        f"data: {newest.dataset.dataset_id}"
    )
    measured = ledger.decide(world.compressed(beside_nobody, right=150))
    assert isinstance(measured, facts.ModelRefused)
    assert ledger.catalogue.champion("digits").trained.dataset_id == newest.dataset.dataset_id
    ends = [version.state for version in ledger.catalogue.versions.values()]
    assert ends == [VersionState.REFUSED, VersionState.RELEASED, VersionState.REFUSED]


def test_a_run_that_never_ended_in_an_older_log_holds_up_nothing(story, world, ledger):
    _, newest = earlier(story, world, ledger, (1, 2))
    ledger.learn(world.failed(newest))
    assert isinstance(story.train(3), facts.TrainingRequested)


def test_after_a_rollback_newer_data_than_the_champion_s_is_released(story, world, ledger):
    story.release(1)
    story.release(2)
    request = story.compress(3)
    ledger.grant(Rollback("digits"))
    again = ledger.decide(world.compressed(request))
    assert again.champion.dataset.dataset_id == world.frozen(story.applied, 1).dataset_id
    assert isinstance(ledger.decide(world.compressed(again)), facts.ModelReleased)


def test_the_older_spec_s_version_of_the_same_rows_replaces_nothing(story, world, ledger):
    (older,) = earlier(story, world, ledger, (1,))
    mended = world.applied(seed=8)
    elsewhere = type(ledger)()
    elsewhere.learn(story.applied)
    elsewhere.learn(world.failed(elsewhere.decide(world.frozen(story.applied))))
    (newer,) = elsewhere.learn(mended)
    ledger.write(mended, newer)
    ledger.decide(world.compressed(ledger.decide(world.trained(newer))))
    refused = ledger.decide(replace(world.trained(older), metrics={"accuracy": 1.0}))
    assert isinstance(refused, facts.ModelRefused)


def test_a_dataset_that_is_frozen_again_after_another_is_the_newest_one(story, world, ledger):
    first, second = world.frozen(story.applied, 1), world.frozen(story.applied, 2)
    ledger.learn(first)
    assert ledger.learn(first).repeated
    ledger.learn(second)

    # As when a spec is changed back.
    assert not isinstance(ledger.learn(first), Objection)

    assert ledger.catalogue.newest_dataset("digits").frozen == first
    assert ledger.learn(first).repeated


def champions(ledger):
    return [(release.released.ordinal, release.released.reason) for release in ledger.catalogue.releases]


def test_a_spec_that_is_changed_back_brings_its_version_back(story, world, ledger):
    story.release(1)
    other = story.changed(salt="other")
    other.release(2)
    assert story.changed(agreement=0.991, cache="off").decided == ()
    back = world.frozen(replace(story.applied, spec=ledger.catalogue.pipelines["digits"].spec), 1)

    released = ledger.decide(back)

    # The limits, and what else the spec says of serving, are those of now.
    assert (released.ordinal, released.epoch, released.variant, released.reason) == (1, 3, "fp32", AGAIN)
    assert released.cache is facts.CachePolicy.OFF
    assert champions(ledger) == [(1, ""), (2, ""), (1, AGAIN)]
    assert [v.state for v in ledger.catalogue.versions.values()] == [VersionState.RELEASED, VersionState.REPLACED]
    again = world.frozen(other.changed(salt="other").applied, 2)
    assert ledger.decide(again).ordinal == 2


def test_another_training_that_is_taken_back_brings_its_version_back(story, ledger, world):
    story.release(1)
    (training,) = story.changed(seed=8).decided
    ledger.decide(world.compressed(ledger.decide(world.trained(training))))
    (released,) = story.changed().decided
    assert (released.ordinal, released.reason) == (1, AGAIN)
    assert story.changed(cache="off").decided == ()
    # A rollback after that stays, whatever else is changed or frozen again.
    ledger.grant(Rollback("digits"))
    assert ledger.catalogue.champion("digits").ordinal == 2
    assert story.changed(cache="off", agreement=0.9).decided == ()
    assert ledger.learn(world.frozen(story.applied, 1, request_id="once more")) == []


def test_what_was_under_way_for_a_spec_that_is_taken_back_replaces_nothing(story, world, ledger):
    story.release(1)
    (running,) = story.changed(seed=8).decided
    (held,) = story.changed(seed=9).decided
    (superseded,) = story.changed().decided
    assert superseded.run_id == held.run_id
    refused = ledger.decide(world.trained(running))
    assert refused.reason == "superseded: the champion, version 1, is of the spec in force and the newest dataset"
    assert champions(ledger) == [(1, "")]


def test_a_version_that_passes_the_gates_no_more_does_not_come_back(story, world, ledger):
    story.release(1)
    (training,) = story.changed(seed=8).decided
    ledger.decide(world.compressed(ledger.decide(world.trained(training))))
    version_id = ledger.catalogue.releases[0].released.version_id
    version = ledger.catalogue.versions["digits", version_id]
    ledger.catalogue.versions["digits", version_id] = replace(version, variants=())
    (refused,) = story.changed().decided
    assert isinstance(refused, facts.ModelRefused)
    assert refused.reason.startswith("no variant passed its gates: ")
    assert ledger.catalogue.champion("digits").ordinal == 2
