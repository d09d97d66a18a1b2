"""A candidate whose answers are measured worse than the champion's goes back; what is in doubt goes on, and says so."""

from dataclasses import replace
from datetime import timedelta

import pytest
from headrace.events.v1 import quality_pb2
from headrace_data.bounds import wilson
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import candidates, facts
from headrace_model_registry.core.facts import Bounded, RolloutCounts, RolloutOutcome
from headrace_model_registry.core.progress import RolloutObserved
from headrace_model_registry.core.queries import ProgressBoard
from headrace_model_registry.core.wishes import RolloutLook
from headrace_model_registry.transport.consumer import to_progress
from headrace_model_registry.transport.converters import from_log_entry, to_log_entry
from headrace_model_registry.transport.telling import tell
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.records import Record
from prometheus_client import REGISTRY

COUNTS = RolloutCounts(champion_calls=150, candidate_calls=120)


@pytest.fixture
def rolling(world, story, ledger):
    """A pipeline whose candidate answers half of the calls, and whose answers are measured live."""
    return begun(world, story, ledger)


def begun(world, story, ledger, more=""):
    plan = f"quality: true, rollout: {{canary: [50, 100], every: 10m, calls: 100{more}}}, "
    document = world.document().replace(b"serve: {", b"serve: {" + plan.encode())
    labels = b"topic: digits\n  labels: {topic: outcomes}\n"
    pipeline = load_pipeline(document.replace(b"topic: digits\n", labels))
    applied = replace(story.applied, spec=facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest))
    ledger.learn(applied)
    own = replace(story, applied=applied)
    own.release(1)
    ledger.learn(world.compressed(own.compress(2)))
    return ledger


def told(ledger, candidate, champion, incarnation=0):
    """Return the board as it is once both arms were measured: accuracy and rows of either, None for nothing."""
    record = ledger.catalogue.tried.rollouts["digits"]
    of, first = record.advanced, ledger.catalogue.champion("digits").trained.version_id
    board = ProgressBoard().showing(RolloutObserved("digits", "digits", of.epoch, "a", COUNTS))
    arms = [(of.version_id, of.version_id, candidate), (first, of.version_id, champion), (first, "", (0.1, 9_000))]
    for version, tried, figures in arms:
        if figures is None:
            continue
        value, rows = figures
        message = quality_pb2.QualityMeasured(
            pipeline="digits", incarnation=incarnation, model="digits", version_id=version, rows=rows
        )
        message.since_time.FromSeconds(1_700_000_000)
        if tried:
            low, high = wilson(value, rows)
            message.tried_version_id = tried
            message.compared.name, message.compared.value = "accuracy", value
            message.compared.low, message.compared.high = low, high
        sent = encode(message, source="test")
        progress = to_progress(Record(sent.topic, 0, 0, sent.key, sent.value, sent.headers, 0))
        assert progress is not None
        board = board.showing(progress)
    return board


def look(ledger, board, after=timedelta(hours=2)):
    record = ledger.catalogue.tried.rollouts["digits"]
    observed = candidates.observed(record, ledger.catalogue, board)
    return ledger.grant(RolloutLook("digits", record.advanced.epoch, observed, record.begin_time + after))


def test_a_worse_candidate_goes_back_at_once_with_the_figures_in_the_record(rolling):
    board = told(rolling, (0.7, 300), (0.95, 400))
    ended, _withdrawn, refused = look(rolling, board, after=timedelta(0))
    assert ended.outcome is RolloutOutcome.ROLLED_BACK
    assert "with 50 % of the calls: worse: accuracy is 0.7000 (0.6" in ended.reason
    assert "of 300 answered rows with a label, the champion's 0.9500" in ended.reason
    assert ended.reason in refused.reason
    assert ended.quality.candidate == Bounded("accuracy", 0.7, *wilson(0.7, 300))
    assert (ended.quality.candidate_rows, ended.quality.champion_rows) == (300, 400)
    assert from_log_entry(to_log_entry(rolling.log[-3])).event == ended
    tell(rolling.log[-3:])
    ends = {"pipeline": "digits", "outcome": "rolled_back"}
    assert REGISTRY.get_sample_value("headrace_rollouts_ended_total", ends) == 1
    (over,) = candidates.listed(rolling.catalogue, board, rolling.log[-1].occur_time)
    assert over.quality == ended.quality


DOUBTS = {
    "0 of its answers and 0 of the champion's have their label, and 100 of either tell something": (None, None),
    "99 of its answers and 400 of": ((0.1, 99), (0.95, 400)),
    "accuracy is 0.9300": ((0.93, 120), (0.95, 400)),
    "accuracy is 0.9900": ((0.99, 5_000), (0.95, 400)),
}


@pytest.mark.parametrize("said", DOUBTS)
def test_what_is_in_doubt_goes_on_and_says_so(rolling, said):
    ended, champion, _withdrawn = look(rolling, told(rolling, *DOUBTS[said]))
    assert (ended.outcome, champion.ordinal) == (RolloutOutcome.PROMOTED, 2)
    assert said in ended.reason
    assert ended.quality is not None
    assert ("in doubt" in ended.reason) == ("answers" in said)


def test_who_looks_again_and_again_needs_a_wider_interval(rolling):
    """The same distance between both ends: enough at the first look, and not after seven doublings."""
    board = told(rolling, (0.9, 12_800), (0.913, 12_800))
    observed = candidates.observed(rolling.catalogue.tried.rollouts["digits"], rolling.catalogue, board)
    low, high = (each[at] for at, each in ((0, wilson(0.913, 12_800)), (1, wilson(0.9, 12_800))))
    assert ((0.913 - low) ** 2 + (high - 0.9) ** 2) ** 0.5 < 0.013
    assert "no more lost than chance explains" in look(rolling, board)[0].reason
    assert observed.quality.candidate_rows == 12_800


def test_a_share_that_may_be_lost_is_no_reason(world, story, ledger):
    rolling = begun(world, story, ledger, more=", worse: 0.3")
    assert "chance and serve.rollout.worse allow" in look(rolling, told(rolling, (0.7, 300), (0.95, 400)))[0].reason


def test_figures_of_an_earlier_pipeline_of_the_name_say_nothing(rolling):
    reason = look(rolling, told(rolling, (0.7, 300), (0.95, 400), incarnation=7))[0].reason
    assert "live quality is in doubt" in reason
