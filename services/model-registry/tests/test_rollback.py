"""A champion goes back to an earlier release, and what comes later is measured beside it."""

from dataclasses import replace

import pytest
from headrace_model_registry.core import facts
from headrace_model_registry.core.objections import objection
from headrace_model_registry.core.policy import decide
from headrace_model_registry.core.wishes import Rollback


def ordinals(ledger):
    return [release.released.ordinal for release in ledger.catalogue.releases]


def back(ledger, ordinal=0):
    (released,) = ledger.grant(Rollback("digits", ordinal))
    return released


def test_the_earlier_release_is_made_again_with_the_next_epoch(story, ledger):
    first, second = story.release(1), story.release(2)
    assert back(ledger) == replace(first, epoch=second.epoch + 1, reason="rollback")
    assert ledger.catalogue.champion("digits").trained.version_id == first.version_id
    assert [type(entry.event) for entry in ledger.log[-1:]] == [facts.ModelReleased]


def test_the_next_rollback_goes_further_back_and_never_to_what_was_left_behind(story, ledger):
    for number in (1, 2, 3):
        story.release(number)
    back(ledger)
    back(ledger)
    assert ordinals(ledger) == [1, 2, 3, 2, 1]
    refused = ledger.grant(Rollback("digits"))
    assert refused.reason == "there is no release of model digits before version 1, which is the champion"
    assert not refused.repeated


def test_a_release_after_a_rollback_goes_back_to_what_was_served_before_it(story, ledger):
    for number in (1, 2):
        story.release(number)
    back(ledger)
    story.release(3)
    back(ledger)
    assert ordinals(ledger) == [1, 2, 1, 3, 1]


def test_an_ordinal_names_the_version_to_go_to_also_a_newer_one(story, ledger):
    for number in (1, 2, 3):
        story.release(number)
    assert back(ledger, 1).ordinal == 1
    assert back(ledger, 3).ordinal == 3
    assert back(ledger).ordinal == 1
    assert [release.released.epoch for release in ledger.catalogue.releases] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("ordinal", "reason"),
    [
        (2, "version 2 of model digits is the champion already"),
        (3, "version 3 of model digits was never released; released were: 1, 2"),
    ],
)
def test_what_cannot_be_gone_back_to_is_named(story, ledger, ordinal, reason):
    story.release(1)
    story.release(2)
    refused = story.release(3, right=100, champion_right=140)
    assert isinstance(refused, facts.ModelRefused)
    assert ledger.grant(Rollback("digits", ordinal)).reason == reason


def test_a_model_without_a_release_has_nothing_to_go_back_to(story, ledger):
    story.compress()
    wish = Rollback("digits")
    assert objection(wish, ledger.catalogue).reason == "nothing of model digits was released yet"
    assert decide(wish, ledger.catalogue) == []


def test_a_later_candidate_is_compared_with_the_champion_in_force(story, world, ledger):
    first = story.release(1)
    story.release(2)
    back(ledger)
    request = story.compress(3)
    assert request.champion.version_id == first.version_id
    refused = ledger.decide(world.compressed(request, right=139, champion_right=140))
    assert "version 1 " in refused.reason


def test_a_candidate_that_was_measured_meanwhile_is_measured_again(story, world, ledger):
    first = story.release(1)
    second = story.release(2)
    request = story.compress(3)
    assert request.champion.version_id == second.version_id
    back(ledger)
    again = ledger.decide(world.compressed(request))
    assert again.champion.version_id == first.version_id
    assert ledger.decide(world.compressed(again)).ordinal == 3
