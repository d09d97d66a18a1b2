"""The catalogue at any past moment: the log folded up to it."""

from datetime import timedelta

import pytest
from headrace_model_registry.core import queries
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import LogEntry
from headrace_model_registry.core.state import State


@pytest.fixture
def state(story, ledger):
    """A state that was published in three steps: first release, second dataset, second release."""
    state = State()
    shown = 0
    story.release(1)
    for step in (lambda: None, lambda: story.fail(2), lambda: story.release(3)):
        step()
        state.publish(ledger.catalogue, ledger.log[shown:])
        shown = len(ledger.log)
    return state


def test_now_is_the_committed_catalogue_itself(state, ledger):
    assert state.as_of(None) is ledger.catalogue


def test_after_the_last_entry_the_past_is_the_present(state, ledger):
    assert state.as_of(ledger.log[-1].occur_time) == ledger.catalogue


def test_before_the_first_entry_there_was_nothing(state, ledger):
    assert state.as_of(ledger.log[0].occur_time - timedelta(microseconds=1)) == Catalogue()


def test_each_moment_is_the_fold_of_what_was_written_until_then(state, ledger):
    known = Catalogue()
    for entry, following in zip(ledger.log, ledger.log[1:], strict=False):
        known.fold(entry)
        if following.occur_time > entry.occur_time:  # a fact and what follows from it have one time
            assert state.as_of(entry.occur_time) == known
            assert state.as_of(following.occur_time - timedelta(microseconds=1)) == known
    assert known != ledger.catalogue


def test_no_release_is_listed_before_it_was_made(state, ledger):
    released = ledger.catalogue.releases[0].release_time
    before = state.as_of(released - timedelta(microseconds=1))
    assert queries.releases(before) == []
    assert len(queries.versions(before)) == len(queries.datasets(before)) == 1
    assert queries.releases(state.as_of(released)) == ledger.catalogue.releases[:1]


def test_the_log_s_order_counts_where_a_clock_went_back(world, ledger):
    first, second = world.applied(), world.applied(name="other")
    ledger.learn(first)
    early = ledger.log[0].occur_time
    state = State()
    state.publish(Catalogue(), [LogEntry(early + timedelta(hours=1), first), LogEntry(early, second)])
    assert state.as_of(early) == Catalogue()
    assert set(state.as_of(early + timedelta(hours=1)).pipelines) == {"digits", "other"}
