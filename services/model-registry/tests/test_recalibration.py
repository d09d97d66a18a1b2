"""The champion's variants made again with rows of a newer dataset."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts, queries
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.records import RunState, VersionState
from headrace_model_registry.core.roots import roots
from headrace_model_registry.core.wishes import Recalibration, Rollback

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def first(story):
    return story.release(1)


@pytest.fixture
def asked(story, ledger, first):
    """The run that makes variants again: of version 1 with dataset 2, from which no version came."""
    story.fail(2)
    (request,) = ledger.grant(Recalibration("digits"))
    return request


def test_the_champion_is_compressed_with_the_newest_dataset_beside_nobody(asked, first, ledger):
    newest = ledger.catalogue.newest_dataset("digits").frozen
    assert asked.run_id.startswith("recalibrate-")
    assert (asked.candidate.version_id, asked.candidate.graph) == (first.version_id, first.unmeasured.graph)
    assert asked.candidate.dataset == facts.DatasetReference(newest.dataset_id, newest.manifest)
    assert asked.candidate.dataset.dataset_id != first.dataset_id
    assert asked.champion is None
    run = queries.runs(ledger.catalogue, queries.ProgressBoard())[-1]
    assert (run.kind, run.state) == (facts.RunKind.RECALIBRATION, RunState.RUNNING)


def test_the_version_is_released_again_in_its_new_variants(asked, first, world, ledger):
    graph = Artifact("store/newer", "sha256:" + "9" * 64, 300)
    measured = world.compressed(asked)
    released = ledger.decide(
        replace(measured, variants=(measured.variants[0], replace(measured.variants[1], graph=graph)))
    )
    assert released == replace(
        first, epoch=2, graph=graph, reason="recalibrated", classes=released.classes, gates=released.gates
    )
    assert released.classes[0].variants[0].graph == graph
    (version,) = ledger.catalogue.versions.values()
    assert (version.state, version.variants[1].graph) == (VersionState.RELEASED, graph)


def test_after_a_rollback_to_the_variants_of_before_it_may_be_asked_for_again(asked, first, world, ledger):
    graph = Artifact("store/newer", "sha256:" + "9" * 64, 300)
    measured = world.compressed(asked)
    newer = replace(measured, variants=(measured.variants[0], replace(measured.variants[1], graph=graph)))
    released = ledger.decide(newer)
    assert "made the variants of version 1" in ledger.grant(Recalibration("digits")).reason
    ledger.write(replace(first, epoch=3, reason="rollback"))
    assert ledger.grant(Recalibration("digits")) == [asked]
    assert "or is about to" in ledger.grant(Recalibration("digits")).reason
    assert ledger.decide(newer) == replace(released, epoch=4)


def test_where_no_variant_passes_what_is_served_stays(asked, first, world, ledger):
    measured = world.compressed(asked)
    unsound = [replace(each, metrics={**each.metrics, "non_finite_rows": 1.0}) for each in measured.variants]
    refused = ledger.decide(replace(measured, variants=tuple(unsound)))
    assert refused.reason.startswith("recalibration: no variant passed its gates")
    assert ledger.catalogue.aliases["digits", "champion"].released == first
    assert ledger.catalogue.champion("digits").state is VersionState.RELEASED


def test_a_run_that_fails_may_be_asked_for_again(asked, first, world, ledger):
    assert ledger.learn(world.failed(asked)) == []
    assert ledger.catalogue.champion("digits").state is VersionState.RELEASED
    assert ledger.grant(Recalibration("digits")) == [asked]


def test_what_is_asked_for_in_vain_is_told(story, first, ledger, world):
    def reason():
        return ledger.grant(Recalibration("digits")).reason

    assert "there is no newer one to make its variants with" in reason()
    assert ledger.grant(Recalibration("other")).reason == "nothing of model other is served"
    request = story.train(2)
    assert reason() == "pipeline digits has a version under way: ask again when that is released or refused"
    ledger.learn(world.failed(request))
    (again,) = ledger.grant(Recalibration("digits"))
    assert reason().startswith(f"run {again.run_id} made the variants of version 1 of model digits")


def test_a_version_that_is_released_meanwhile_stays_and_so_does_what_a_rollback_serves(asked, first, world, ledger):
    graph = Artifact("store/other", "sha256:" + "8" * 64, 300)
    other = replace(first, version_id="sha256:other", ordinal=2, epoch=2, graph=graph, classes=(), unmeasured=None)
    ledger.write(other)
    measured = world.compressed(asked)
    newer = Artifact("store/newer", "sha256:" + "9" * 64, 300)
    newer_variants = (measured.variants[0], replace(measured.variants[1], graph=newer))
    assert ledger.learn(replace(measured, variants=newer_variants)) == []
    assert ledger.catalogue.aliases["digits", "champion"].released == other
    kept = roots(ledger.catalogue, {}, START).artifacts
    (back,) = ledger.grant(Rollback("digits", 1))
    assert back.graph == first.graph
    assert {back.graph, newer} <= kept.keys()


def test_rows_that_a_champion_may_have_learned_from_measure_nothing(story, first, ledger):
    story.changed(salt="other").fail(2)
    assert "keeps apart for its test" in ledger.grant(Recalibration("digits")).reason


def test_a_champion_that_answers_another_question_is_left_alone(asked, first, world, ledger):
    assert ledger.learn(world.failed(asked)) == []
    document = world.document().replace(b"train:\n", b"train:\n  task: regression\n")
    document = document.replace(b"gates: {agreement: 0.98}", b"gates: {}")
    pipeline = load_pipeline(document)
    ledger.learn(replace(world.applied(), spec=facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest)))
    ledger.learn(world.failed(list(ledger.catalogue.runs.values())[-1].request))
    assert "answers another question" in ledger.grant(Recalibration("digits")).reason
