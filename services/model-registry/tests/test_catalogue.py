"""The catalogue as a fold: what each entry leaves behind, and what holds for every story."""

from collections import Counter
from dataclasses import replace

import pytest
from headrace_model_registry.core import facts, queries
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.draft import Draft
from headrace_model_registry.core.facts import LogEntry
from headrace_model_registry.core.objections import Objection
from headrace_model_registry.core.progress import RunProgressed
from headrace_model_registry.core.queries import ProgressBoard
from headrace_model_registry.core.records import RunState, VersionState
from headrace_model_registry.core.wishes import Rollback
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

STEADY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The same on a machine with much else to do."""


def replayed(log):
    catalogue = Catalogue()
    for entry in log:
        catalogue.fold(entry)
    return catalogue


def test_a_release_leaves_its_whole_lineage(story, ledger):
    released = story.release()
    catalogue = ledger.catalogue
    version = catalogue.champion("digits")
    assert (version.state, version.ordinal, version.reason) == (VersionState.RELEASED, 1, "")
    assert version.gates == released.gates
    assert [variant.name for variant in version.variants] == ["fp32", "int8"]
    assert len(version.evaluations) == 1
    assert [(run.kind, run.state) for run in catalogue.runs.values()] == [
        (facts.RunKind.TRAINING, RunState.SUCCEEDED),
        (facts.RunKind.COMPRESSION, RunState.SUCCEEDED),
    ]
    assert [type(entry.event).__name__ for entry in ledger.log] == [
        "PipelineApplied",
        "DatasetFrozen",
        "TrainingRequested",
        "ModelTrained",
        "CompressionRequested",
        "ModelCompressed",
        "ModelReleased",
    ]


def test_times_are_those_of_the_log(story, ledger):
    story.release()
    times = [entry.occur_time for entry in ledger.log]
    training, compression = ledger.catalogue.runs.values()
    assert (training.request_time, training.end_time) == (times[2], times[3])
    assert (compression.request_time, compression.end_time) == (times[4], times[5])
    assert ledger.catalogue.releases[0].release_time == times[6]
    (dataset,) = ledger.catalogue.datasets.values()
    assert dataset.freeze_time == times[1]


def test_ordinals_count_the_versions_of_a_model_in_the_order_of_the_log(story, world, ledger):
    other = world.applied(name="other")
    ledger.learn(other)
    for number in (1, 2, 3):
        for applied in (story.applied, other):
            request = ledger.decide(world.trained(ledger.decide(world.frozen(applied, number))))
            ledger.learn(world.failed(request))
    ordinals = [(v.trained.model, v.ordinal) for v in ledger.catalogue.versions.values()]
    assert ordinals == [(model, n) for n in (1, 2, 3) for model in ("digits", "other")]


def test_a_refused_version_keeps_its_measurements_and_the_reason(story, world, ledger):
    story.release(1)
    refused = story.release(2, right=100)
    version = ledger.catalogue.versions["digits", refused.version_id]
    assert (version.state, version.reason, version.gates) == (VersionState.REFUSED, refused.reason, refused.gates)
    assert version.variants
    assert len(version.evaluations) == 4


def test_a_version_that_was_released_once_stays_so_when_it_is_refused_later(story, ledger):
    released = story.release(1)
    refusal = facts.ModelRefused("digits", released.version_id, "digits", "too old")
    ledger.catalogue.fold(LogEntry(ledger.log[-1].occur_time, refusal))
    version = ledger.catalogue.versions["digits", released.version_id]
    assert (version.state, version.reason) == (VersionState.RELEASED, "too old")


def test_a_version_reads_replaced_once_another_is_served_and_released_after_a_rollback(story, ledger):
    story.release(1)
    story.release(2)
    states = [version.state for version in ledger.catalogue.versions.values()]
    assert states == [VersionState.REPLACED, VersionState.RELEASED]
    ledger.grant(Rollback("digits"))
    states = [version.state for version in ledger.catalogue.versions.values()]
    assert states == [VersionState.RELEASED, VersionState.REPLACED]


@pytest.mark.parametrize("newer", ["dataset", "request", "spec"])
def test_a_failed_freeze_is_forgotten_once_anything_newer_happens(story, world, ledger, newer):
    ledger.learn(facts.DatasetFailed("digits", "no rows"))
    assert queries.status(ledger.catalogue, ProgressBoard(), "digits").failure == "no rows"
    if newer == "dataset":
        story.train()
    elif newer == "request":
        ledger.learn(facts.DatasetRequested("digits", "r1"))
    else:
        story.changed(seed=8)
    assert queries.status(ledger.catalogue, ProgressBoard(), "digits").failure == ""


def test_a_copy_goes_its_own_way(story, ledger):
    before = replayed(ledger.log)
    copied = ledger.catalogue.copy()
    assert copied == ledger.catalogue == before
    for name in Catalogue.__slots__:
        assert getattr(copied, name) is not getattr(ledger.catalogue, name)


def test_a_draft_leaves_the_catalogue_as_it_was(story, world, ledger):
    story.train(1)
    before = ledger.catalogue
    draft = Draft(before)
    entries = draft.take(world.frozen(story.applied, 2), ledger.log[-1].occur_time)
    assert draft.entries == entries
    assert len(draft.catalogue.runs) == 2
    assert before == replayed(ledger.log)


def test_a_fold_survives_what_earlier_entries_leave_open(story, world, ledger):
    story.release()
    for entry in ledger.log:
        Catalogue().fold(entry)
    Catalogue().fold(replace(ledger.log[0], event=world.failed(story.train(2))))


def test_a_fold_does_not_guess_at_what_it_does_not_know(ledger, story):
    with pytest.raises(TypeError, match="RunProgressed"):
        Catalogue().fold(
            LogEntry(
                ledger.log[0].occur_time,
                RunProgressed("r", "digits", facts.RunKind.TRAINING, 1, 1, 2),  # type: ignore[arg-type]
            )
        )


ACTIONS = st.one_of(
    st.tuples(st.just("apply"), st.sampled_from([{}, {"seed": 8}, {"width": 100}, {"cache": "off"}])),
    st.tuples(st.just("freeze"), st.integers(1, 3)),
    st.tuples(st.just("no dataset"), st.integers(1, 3)),
    st.tuples(st.just("end"), st.integers(0, 2)),
    st.tuples(st.just("compress"), st.integers(130, 150)),
    st.tuples(st.just("fail"), st.integers(0, 2)),
)
UNBEGUN = (RunState.WAITING, RunState.SUPERSEDED)
STEPS = st.lists(st.tuples(st.sampled_from(["digits", "other"]), ACTIONS), max_size=30)


class Services:
    """What the workers of a pipeline do: answer what they were asked for, in an order that a test chooses."""

    def __init__(self, world, ledger, name):
        self.world, self.ledger, self.name = world, ledger, name
        self.applied = world.applied(name=name)
        self.open = []
        self.said = []
        self.events = []
        self.say(self.applied)

    def say(self, fact):
        outcome = self.ledger.learn(fact)
        self.said.append(fact)
        if not isinstance(outcome, Objection):
            self.events += [fact, *outcome]
            self.open += [e for e in outcome if isinstance(e, facts.TrainingRequested | facts.CompressionRequested)]

    def take(self, action, argument):
        if action == "apply":
            self.applied = self.world.applied(**{"name": self.name} | argument)
            self.say(self.applied)
        elif action == "freeze":
            self.say(self.world.frozen(self.applied, argument))
        elif action == "no dataset":
            self.say(facts.DatasetFailed(self.name, f"no rows {argument}", f"{self.name} {argument}"))
        elif self.open:
            self.answer(action, argument)

    def answer(self, action, argument):
        request = self.open.pop(argument % len(self.open))
        if action == "fail":
            self.say(self.world.failed(request))
        elif isinstance(request, facts.TrainingRequested):
            self.say(self.world.trained(request))
        else:
            self.say(self.world.compressed(request, right=130 + argument % 21))


def play(world, ledger, names, steps):
    services = {name: Services(world, ledger, name) for name in names}
    for name, (action, argument) in steps:
        if name in services:
            services[name].take(action, argument)
    return services


@STEADY
@given(steps=STEPS)
def test_replaying_the_log_gives_the_same_catalogue(steps, world, new_ledger):
    ledger = new_ledger()
    play(world, ledger, ["digits", "other"], steps)
    assert replayed(ledger.log) == ledger.catalogue


@STEADY
@given(steps=STEPS, data=st.data())
def test_ends_that_repeat_change_nothing(steps, data, world, new_ledger):
    ledger = new_ledger()
    services = play(world, ledger, ["digits", "other"], steps)
    ends = facts.ModelTrained | facts.ModelCompressed | facts.RunFailed
    said = [fact for service in services.values() for fact in service.said if isinstance(fact, ends)]
    before, entries = ledger.catalogue, len(ledger.log)
    for fact in data.draw(st.permutations(said)):
        assert ledger.learn(fact).repeated
    assert ledger.catalogue == before
    assert len(ledger.log) == entries


@STEADY
@given(steps=STEPS)
def test_a_fact_said_twice_in_a_row_is_recorded_once(steps, world, new_ledger):
    once, twice = new_ledger(), new_ledger()
    services = play(world, once, ["digits", "other"], steps)
    repeats = [fact for service in services.values() for fact in service.said]
    spoken = [entry.event for entry in once.log if entry.event in repeats]
    for fact in spoken:
        twice.learn(fact)
        assert twice.learn(fact).repeated
    assert [entry.event for entry in twice.log] == [entry.event for entry in once.log]


@STEADY
@given(steps=STEPS)
def test_epochs_and_ordinals_only_grow(steps, world, new_ledger):
    ledger = new_ledger()
    play(world, ledger, ["digits", "other"], steps)
    for model in ("digits", "other"):
        releases = [e.event for e in ledger.log if isinstance(e.event, facts.ModelReleased) and e.event.model == model]
        assert [release.epoch for release in releases] == list(range(1, len(releases) + 1))
        ordinals = [v.ordinal for v in ledger.catalogue.versions.values() if v.trained.model == model]
        assert ordinals == list(range(1, len(ordinals) + 1))
        champion = ledger.catalogue.champion(model)
        assert (champion is None) is (not releases)
        if champion is not None:
            assert champion.trained.version_id == releases[-1].version_id
            assert champion.state is VersionState.RELEASED


@STEADY
@given(steps=STEPS)
def test_every_run_is_asked_for_once_and_judged_versions_have_a_verdict(steps, world, new_ledger):
    ledger = new_ledger()
    play(world, ledger, ["digits", "other"], steps)
    asked = [
        e.event.run_id for e in ledger.log if isinstance(e.event, facts.TrainingRequested | facts.CompressionRequested)
    ]
    began = [run for run in ledger.catalogue.runs.values() if run.state not in UNBEGUN]
    assert len(asked) == len(set(asked)) == len(began)
    running = {run.subject for run in ledger.catalogue.runs.values() if run.state is RunState.RUNNING}
    for (_, version_id), version in ledger.catalogue.versions.items():
        assert version.state is not VersionState.CANDIDATE or version_id in running


@STEADY
@given(steps=STEPS)
def test_a_pipeline_has_one_candidate_under_way_and_only_the_newest_waits(steps, world, new_ledger):
    ledger = new_ledger()
    play(world, ledger, ["digits", "other"], steps)
    for name in ("digits", "other"):
        states = Counter(run.state for run in ledger.catalogue.runs.values() if run.request.pipeline == name)
        assert states[RunState.RUNNING] <= 1
        assert states[RunState.WAITING] <= states[RunState.RUNNING]


@STEADY
@given(steps=STEPS)
def test_no_release_goes_back_to_older_data(steps, world, new_ledger):
    ledger = new_ledger()
    play(world, ledger, ["digits", "other"], steps)
    known = Catalogue()
    for entry in ledger.log:
        if isinstance(entry.event, facts.ModelReleased) and (before := known.champion(entry.event.model)):
            version = known.versions[entry.event.pipeline, entry.event.version_id]
            assert not known.is_older(version.trained, before.trained)
        known.fold(entry)


@STEADY
@given(steps=STEPS)
def test_each_pipeline_has_the_story_that_it_would_have_alone(steps, world, new_ledger):
    together = play(world, new_ledger(), ["digits", "other"], steps)
    for name in ("digits", "other"):
        (alone,) = play(world, new_ledger(), [name], steps).values()
        assert together[name].events == alone.events
