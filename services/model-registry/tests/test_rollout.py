"""A candidate takes the champion's place step by step, or goes back."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts
from headrace_model_registry.core.candidates import listed
from headrace_model_registry.core.facts import CANDIDATE, CHAMPION, RolloutCounts, RolloutOutcome, RolloutStage
from headrace_model_registry.core.objections import Objection
from headrace_model_registry.core.progress import RolloutObserved
from headrace_model_registry.core.queries import ProgressBoard
from headrace_model_registry.core.records import VersionState
from headrace_model_registry.core.rollout import Observed, median_s
from headrace_model_registry.core.wishes import Rollback, RolloutLook, RolloutOrder
from headrace_model_registry.transport.converters import from_log_entry, to_log_entry
from hypothesis import given, settings
from hypothesis import strategies as st

PLAN = "rollout: {shadow: 1h, canary: [10, 50, 100], every: 10m, calls: 100}, "
FAST, SLOW = (0,) * 20 + (200,), (0,) * 40 + (200,)
"""Two hundred computations of about a third of a millisecond, and of about ten."""
GOOD = RolloutCounts(champion_calls=900, candidate_calls=120, champion_times=FAST, candidate_times=FAST)


@pytest.fixture
def rolling(world, story, ledger):
    """A pipeline that rolls out in steps, with a champion and a candidate that is in the shadow."""
    document = world.document().replace(b"serve: {", b"serve: {" + PLAN.encode())
    pipeline = load_pipeline(document)
    applied = replace(story.applied, spec=facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest))
    ledger.learn(applied)
    rolling = replace(story, applied=applied)
    champion = rolling.release(1)
    decided = ledger.learn(world.compressed(rolling.compress(2)))
    return SimpleNamespace(story=rolling, champion=champion, decided=decided, ledger=ledger, world=world)


def look(ledger, counts=GOOD, after=timedelta(hours=2), fault=""):
    record = ledger.catalogue.tried.rollouts["digits"]
    wish = RolloutLook("digits", record.advanced.epoch, Observed(counts, fault), record.begin_time + after)
    return ledger.grant(wish)


def test_the_first_version_is_champion_and_the_next_is_tried_in_the_shadow(rolling):
    advanced, released = rolling.decided
    assert (rolling.champion.alias, rolling.champion.stage) == (CHAMPION, RolloutStage.UNSPECIFIED)
    assert (advanced.step, advanced.stage, advanced.share) == (0, RolloutStage.SHADOW, 0)
    assert (released.alias, released.epoch, released.ordinal) == (CANDIDATE, 1, 2)
    catalogue = rolling.ledger.catalogue
    assert catalogue.champion("digits").ordinal == 1
    assert catalogue.versions["digits", released.version_id].state is VersionState.CANDIDATE
    # A later dataset waits, as for any candidate under way.
    assert isinstance(rolling.story.train(3), facts.TrainingHeld)


def test_a_good_candidate_is_champion_after_its_last_step(rolling):
    ledger = rolling.ledger
    held = rolling.story.train(3)
    shares = []
    for _ in range(2):
        advanced, released = look(ledger)
        assert (advanced.epoch, advanced.counts, advanced.share) == (released.epoch, GOOD, released.share)
        shares.append((released.alias, released.stage, released.share))
    assert shares == [(CANDIDATE, RolloutStage.CANARY, 10), (CANDIDATE, RolloutStage.CANARY, 50)]
    ended, champion, withdrawn, begun = look(ledger)
    assert (ended.outcome, ended.ordinal) == (RolloutOutcome.PROMOTED, 2)
    assert (champion.alias, champion.epoch, champion.ordinal, champion.share) == (CHAMPION, 2, 2, 0)
    assert (withdrawn.alias, withdrawn.epoch) == (CANDIDATE, 3)
    assert (begun.run_id, type(begun)) == (held.run_id, facts.TrainingRequested)
    catalogue = ledger.catalogue
    assert catalogue.tried.rollouts == {}
    assert [v.state for v in catalogue.versions.values()] == [VersionState.REPLACED, VersionState.RELEASED]
    # The fold of the log, as it is read again, is the same.
    again = type(ledger)()
    for entry in ledger.log:
        again.catalogue.fold(from_log_entry(to_log_entry(entry)))
    assert again.catalogue == catalogue


def test_what_waited_for_a_candidate_begins_when_another_pipeline_releases_a_version_of_the_model(rolling):
    world, ledger = rolling.world, rolling.ledger
    held = rolling.story.train(3)
    rival = replace(rolling.story, applied=world.applied(name="rival"))
    ledger.learn(rival.applied)
    request = ledger.decide(world.trained(rival.train(4), model="digits"))
    decided = ledger.learn(world.compressed(request, right=150, champion_right=100))
    ended, begun = decided[0], decided[-1]
    assert (ended.pipeline, ended.outcome) == ("digits", RolloutOutcome.SUPERSEDED)
    assert (begun.run_id, type(begun)) == (held.run_id, facts.TrainingRequested)


BAD = {
    "no finite numbers": replace(GOOD, not_finite=1, candidate_calls=1),
    "3 of 123 calls failed": replace(GOOD, failed=3),
    "2 of 4 calls failed": replace(GOOD, failed=2, candidate_calls=2),
    "slow": replace(GOOD, candidate_times=SLOW),
}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_candidate_goes_back_by_itself_and_at_once(rolling, said):
    ledger = rolling.ledger
    ended, withdrawn, refused = look(ledger, BAD[said], after=timedelta())
    assert ended.outcome is RolloutOutcome.ROLLED_BACK
    assert said in ended.reason
    assert ended.reason in refused.reason
    assert ended.counts == BAD[said]
    assert (withdrawn.alias, ledger.catalogue.champion("digits").ordinal) == (CANDIDATE, 1)
    assert ledger.catalogue.versions["digits", ended.version_id].state is VersionState.REFUSED
    assert ledger.catalogue.tried.rollouts == {}
    assert (CANDIDATE, "digits") not in ledger.catalogue.aliases


@pytest.mark.parametrize(
    ("counts", "after"),
    [
        (GOOD, timedelta(minutes=59)),
        (replace(GOOD, candidate_calls=99), timedelta(days=6)),
        (replace(GOOD, failed=1, candidate_calls=0), timedelta(hours=2)),
        (RolloutCounts(), timedelta(hours=2)),
    ],
)
def test_a_step_lasts_its_time_and_its_calls(rolling, counts, after):
    assert look(rolling.ledger, counts, after).repeated


def test_a_candidate_that_nobody_calls_does_not_hold_up_for_ever(rolling):
    ended, *_ = look(rolling.ledger, RolloutCounts(), timedelta(days=7))
    assert "only 0 of 100 calls came" in ended.reason


def test_a_candidate_that_does_not_load_goes_back(rolling):
    ended, *_ = look(rolling.ledger, RolloutCounts(), timedelta(), fault="an operator that is not known")
    assert "does not load: an operator that is not known" in ended.reason


def test_a_look_at_another_step_changes_nothing(rolling):
    wish = RolloutLook("digits", 1, Observed(GOOD), rolling.ledger.log[-1].occur_time + timedelta(hours=2))
    assert rolling.ledger.grant(wish)[0].share == 10
    assert rolling.ledger.grant(wish) == Objection(
        "the candidate of model digits has begun another step, or gone", repeated=True
    )


def test_a_rollback_takes_the_candidate_back_and_leaves_the_champion(rolling):
    ended, withdrawn, _refused = rolling.ledger.grant(Rollback("digits"))
    assert (ended.outcome, withdrawn.alias) == (RolloutOutcome.ABORTED, CANDIDATE)
    assert rolling.ledger.catalogue.champion("digits").ordinal == 1
    assert "no release of model digits before" in rolling.ledger.grant(Rollback("digits")).reason


def test_a_person_may_move_a_candidate(rolling):
    ledger = rolling.ledger
    assert [event.share for event in ledger.grant(RolloutOrder("digits", advance=True))] == [10, 10]
    assert ledger.grant(RolloutOrder("digits", advance=False))[0].outcome is RolloutOutcome.ABORTED
    assert "has no candidate" in ledger.grant(RolloutOrder("digits", advance=True)).reason


def test_a_rollout_is_shown_with_what_it_waits_for_and_why_it_ended(rolling):
    ledger, board, now = rolling.ledger, ProgressBoard(), rolling.ledger.log[-1].occur_time
    board = board.showing(RolloutObserved("digits", "digits", 1, "a", replace(GOOD, candidate_calls=12)))
    (going,) = listed(ledger.catalogue, board, now, "digits")
    assert (going.ordinal, going.step, going.steps, going.end_time) == (2, 0, 3, None)
    assert (going.reason, going.counts.candidate_calls) == ("12 of 100 calls have come", 12)
    look(ledger, replace(GOOD, not_finite=1))
    (over,) = listed(ledger.catalogue, board, now)
    assert (over.outcome, over.end_time, over.counts.not_finite) == (
        RolloutOutcome.ROLLED_BACK,
        ledger.log[-1].occur_time,
        1,
    )
    assert listed(ledger.catalogue, board, now, "other") == []
    assert [release.released.alias for release in ledger.catalogue.releases] == [CHAMPION]


def test_the_end_of_the_pipeline_is_that_of_its_rollout(rolling):
    withdrawn = rolling.ledger.learn(facts.PipelineDeleted("digits"))
    assert {each.alias for each in withdrawn} == {CHAMPION, CANDIDATE}
    assert rolling.ledger.catalogue.tried.rollouts == {}


def test_a_candidate_whose_champion_goes_with_another_pipeline_is_champion(rolling):
    """Nothing is served that it could be tried beside: without calls it would wait in vain."""
    world, ledger = rolling.world, rolling.ledger
    rival = replace(rolling.story, applied=world.applied(name="rival"))
    ledger.learn(rival.applied)
    request = ledger.decide(world.trained(rival.train(4), model="digits"))
    ledger.learn(world.compressed(request, right=150, champion_right=100))
    better = world.compressed(rolling.story.compress(5), right=150, champion_right=100)
    assert ledger.learn(better)[0].stage is RolloutStage.SHADOW
    held = rolling.story.train(6)
    ended, champion, withdrawn, begun = ledger.learn(facts.PipelineDeleted("rival"))
    assert (ended.pipeline, ended.outcome, ended.counts) == ("digits", RolloutOutcome.PROMOTED, None)
    assert "the champion's pipeline, rival, was deleted" in ended.reason
    assert (champion.alias, champion.epoch, champion.pipeline, champion.share) == (CHAMPION, 3, "digits", 0)
    assert (withdrawn.alias, withdrawn.pipeline) == (CANDIDATE, "digits")
    assert begun.run_id == held.run_id
    assert ledger.catalogue.champion("digits").trained.version_id == champion.version_id
    assert list(ledger.catalogue.aliases) == [("digits", CHAMPION)]


def test_a_spec_that_is_taken_back_takes_its_candidate_with_it(rolling, world):
    """The candidate is of other settings on the champion's rows, and then the settings of before are in force again."""
    ledger = rolling.ledger
    look(ledger, replace(GOOD, not_finite=1))
    other = rolling.story.applied
    document = world.document(seed=8).replace(b"serve: {", b"serve: {" + PLAN.encode())
    pipeline = load_pipeline(document)
    changed = replace(other, spec=facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest))
    ledger.learn(replace(world.frozen(other, 1), request_id="again"))
    (request,) = ledger.learn(changed)
    compressed = ledger.decide(world.trained(request))
    assert ledger.learn(world.compressed(compressed))[0].stage is RolloutStage.SHADOW
    ended, withdrawn, _refused = ledger.learn(other)
    assert (ended.outcome, withdrawn.alias) == (RolloutOutcome.SUPERSEDED, CANDIDATE)
    assert "is of the spec in force" in ended.reason
    assert ledger.catalogue.champion("digits").ordinal == 1


def test_steps_of_before_a_changed_spec_go_on(rolling):
    rolling.ledger.learn(rolling.world.applied())  # without a rollout
    assert look(rolling.ledger)[0].share == 10


REPORTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 2), st.integers(0, 300), st.integers(0, 1)), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(REPORTS, st.randoms())
def test_reports_count_alike_in_any_order_and_however_often_they_come(reports, random):
    """Of each replica the most that it told counts: reports are cumulative, and those of an older step are nothing."""
    messages = [
        RolloutObserved("digits", "digits", epoch, replica, RolloutCounts(candidate_calls=calls, failed=calls // 50))
        for replica, epoch, calls, _ in reports
    ]
    shuffled = messages + [message for message, report in zip(messages, reports, strict=True) if report[3]]
    random.shuffle(shuffled)
    boards = []
    for told in (messages, shuffled):
        board = ProgressBoard()
        for message in told:
            board = board.showing(message)
        boards.append(board)
    newest = max((message.epoch for message in messages), default=0)
    assert boards[0].observed("digits", newest) == boards[1].observed("digits", newest)
    most: dict[str, int] = {}
    for message in messages:
        if message.epoch == newest:
            most[message.replica] = max(most.get(message.replica, 0), message.counts.candidate_calls)
    assert boards[0].observed("digits", newest).counts.candidate_calls == sum(most.values())


def test_the_median_of_counted_times_is_within_its_place():
    assert median_s(()) == 0
    assert median_s((0, 0, 3)) == pytest.approx(1e-5 * 2**0.625)
    assert median_s((1, 0, 0, 0, 2)) == pytest.approx(1e-5 * 2**1.125)
