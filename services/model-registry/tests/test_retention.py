"""Versions go when their pipeline retains others; what is served, and what a rollback would serve next, never do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts, specs
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.records import VersionState
from headrace_model_registry.core.roots import roots
from headrace_model_registry.core.wishes import Retirement, Rollback

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(days=100)


def retaining(story, retain):
    """Return the story once its pipeline says what it retains."""
    document = story.world.document(name="digits") + f"retain: {retain}\n".encode()
    pipeline = load_pipeline(document)
    applied = replace(story.applied, spec=facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest))
    decided = story.ledger.learn(applied)
    assert decided == [], "what is retained changes nothing that is learned"
    return replace(story, applied=applied)


def retired(ledger, moment=LATER):
    outcome = ledger.grant(Retirement(moment))
    return [] if not isinstance(outcome, list) else [_ordinal(ledger, event) for event in outcome]


def _ordinal(ledger, event):
    return ledger.catalogue.versions[event.pipeline, event.version_id].ordinal


@pytest.mark.parametrize(
    ("retain", "days", "gone"),
    [
        ("", 100, []),
        ("{versions: 3}", 100, [1, 2]),
        ("{versions: 5}", 100, []),
        ("{versions: 1}", 100, [1, 2, 3]),  # 4 would be served by a rollback
        ("{age: 90d}", 100, [1, 2, 3]),
        ("{age: 90d}", 80, []),
        ("{versions: 4, age: 90d}", 100, [1]),
        ("{versions: 1, age: 365d}", 100, []),
    ],
)
def test_versions_go_that_neither_number_nor_age_retains(story, ledger, retain, days, gone):
    for number in range(1, 6):
        story.release(number)
    if retain:
        retaining(story, retain)
    assert retired(ledger, START + timedelta(days=days)) == gone
    assert retired(ledger, START + timedelta(days=days)) == [], "once"
    states = {version.ordinal: version.state for version in ledger.catalogue.versions.values()}
    assert [ordinal for ordinal, state in states.items() if state is VersionState.RETIRED] == gone


def test_a_retired_version_is_never_served_again(story, ledger):
    for number in (1, 2, 3):
        story.release(number)
    retaining(story, "{versions: 1}")
    assert retired(ledger) == [1]
    assert ledger.grant(Rollback("digits", 1)).reason == (
        "version 1 of model digits is retired: its pipeline retains it no longer"
    )
    (back,) = ledger.grant(Rollback("digits"))
    assert back.ordinal == 2
    assert ledger.grant(Rollback("digits")).reason == (
        "there is no release of model digits before version 2, which is the champion"
    )
    assert retired(ledger) == [], "the champion, and the newest"
    (forth,) = ledger.grant(Rollback("digits", 3))
    assert forth.ordinal == 3


def test_a_candidate_is_kept_until_it_is_judged(story, ledger):
    story.release(1)
    story = retaining(story, "{versions: 1}")
    request = story.compress(2)
    story.ledger.learn(story.world.frozen(story.applied, 3))
    assert retired(ledger) == []
    found = roots(ledger.catalogue, {}, LATER)
    assert request.run_id in found.live_runs
    assert {request.candidate.graph, request.champion.graph} <= found.artifacts.keys()


HISTORY = {("digits", 0): Artifact("store/history", "sha256:" + "a" * 64, 1000)}


def test_without_retention_everything_that_was_recorded_is_needed(story, ledger):
    released = [story.release(number) for number in (1, 2)]
    failed = story.fail(3)
    found = roots(ledger.catalogue, HISTORY, LATER)
    assert found.histories == list(HISTORY.values())
    manifests = {each.frozen.manifest for each in ledger.catalogue.datasets.values()}
    assert len(manifests) == 3
    assert manifests <= found.documents.keys()
    for version in ledger.catalogue.versions.values():
        assert version.trained.manifest in found.documents
        assert {version.trained.graph, version.trained.weights} <= found.artifacts.keys()
        assert {variant.graph for variant in version.variants} <= found.artifacts.keys()
    assert {each.graph for each in released} <= found.artifacts.keys()
    assert found.told_runs == set(ledger.catalogue.runs)
    assert failed.run_id in found.told_runs
    assert not found.live_runs


def test_what_only_a_retired_version_needed_is_needed_no_longer(story, ledger):
    for number in (1, 2, 3):
        story.release(number)
    retaining(story, "{versions: 1}")
    assert retired(ledger) == [1]
    first = next(version for version in ledger.catalogue.versions.values() if version.ordinal == 1)
    key = ("digits", first.trained.dataset_id)
    found = roots(ledger.catalogue, HISTORY, LATER)
    assert first.trained.manifest not in found.documents
    assert ledger.catalogue.datasets[key].frozen.manifest not in found.documents
    assert not {first.trained.graph, first.trained.weights} & found.artifacts.keys()
    assert len(found.told_runs) == 4, "a training and a compression of each that is kept"
    # Without a history, as before the first cut of this version, datasets are what it is made of.
    assert ledger.catalogue.datasets[key].frozen.manifest in roots(ledger.catalogue, {}, LATER).documents


def test_the_newest_dataset_and_what_waits_are_needed(story, ledger):
    story = retaining(story, "{age: 1d}")
    story.train(1)
    for number in (2, 3):
        ledger.learn(story.world.frozen(story.applied, number))
    found = roots(ledger.catalogue, HISTORY, LATER)
    ids = {key[1]: each.frozen.manifest for key, each in ledger.catalogue.datasets.items()}
    kept = [manifest in found.documents for manifest in ids.values()]
    assert kept == [True, False, True], "what runs, what was superseded, and the newest, which waits"
    assert len(found.live_runs) == 2


def test_a_deleted_pipeline_keeps_its_versions_and_no_history(story, ledger):
    released = story.release(1)
    story.train(2)
    ledger.learn(facts.PipelineDeleted("digits"))
    moment = ledger.log[-1].occur_time + timedelta(days=1)
    found = roots(ledger.catalogue, HISTORY, moment)
    assert found.histories == []
    assert {released.graph} <= found.artifacts.keys()
    assert len(found.documents) == 3, "two datasets and a version"
    assert len(found.live_runs) == 1, "it goes on in its worker"
    assert not roots(ledger.catalogue, HISTORY, moment + timedelta(days=7)).live_runs


def test_the_log_holds_what_went(story, ledger):
    for number in (1, 2, 3):
        story.release(number)
    retaining(story, "{versions: 1}")
    retired(ledger)
    (event,) = [entry.event for entry in ledger.log if isinstance(entry.event, facts.VersionRetired)]
    assert (event.pipeline, event.model) == ("digits", "digits")
    assert specs.parse(ledger.catalogue.pipelines["digits"].spec).retain.versions == 1
