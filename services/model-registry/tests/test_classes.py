"""A released version measured on further classes of processors."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from headrace_model_registry.core import facts, queries
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.facts.classes import ServedVariant
from headrace_model_registry.core.records import RunState
from headrace_model_registry.core.roots import roots
from headrace_model_registry.core.wishes import Recalibration, Rollback

START = datetime(2026, 1, 1, tzinfo=UTC)
ELSEWHERE = Artifact("store/elsewhere", "sha256:" + "7" * 64, 310)


def named(world, *classes):
    """Return the pipeline as it is applied with classes for its replicas."""
    return world.applied(cache=f"redis, classes: [{', '.join(classes)}]")


@pytest.fixture
def first(story):
    return story.release(1)


@pytest.fixture
def asked(first, ledger, world):
    """The measurement that a spec with classes leads to; that of avx2 is there."""
    (request,) = ledger.learn(named(world, "avx2", "amx-int8"))
    return request


def measured(world, request, **int8):
    """Return what a compressor of another class found."""
    found = world.compressed(request, int8=int8)
    fp32, small = found.variants
    return replace(found, variants=(fp32, replace(small, graph=ELSEWHERE)), cpu_class="amx-int8")


def test_each_class_that_nobody_measured_is_asked_for_once(asked, first, ledger, world):
    assert (asked.run_id[:8], asked.cpu_class, asked.champion) == ("measure-", "amx-int8", None)
    assert (asked.candidate.version_id, asked.candidate.dataset.dataset_id) == (first.version_id, first.dataset_id)
    assert ledger.learn(named(world, "amx-int8", "avx2")) == []
    run = queries.runs(ledger.catalogue, queries.ProgressBoard())[-1]
    assert (run.kind, run.state) == (facts.RunKind.MEASUREMENT, RunState.RUNNING)


def test_what_passes_there_is_served_there_by_another_release(asked, first, ledger, world):
    released = ledger.decide(measured(world, asked))
    there = released.classes[1]
    assert released == replace(first, epoch=2, reason="measured on amx-int8", classes=(first.classes[0], there))
    assert (there.cpu_class, there.variants) == ("amx-int8", (ServedVariant("int8", ELSEWHERE),))
    (version,) = ledger.catalogue.versions.values()
    (known,) = version.elsewhere
    assert (known.gates, known.frontier) == (there.gates, ("int8",))
    assert (version.cpu_class, len(version.variants)) == ("avx2", 2)
    assert ELSEWHERE in roots(ledger.catalogue, {}, START).artifacts


def test_what_fails_there_leaves_fp32_and_says_why(asked, first, ledger, world):
    released = ledger.decide(measured(world, asked, agreement=0.5))
    assert released.classes[1].variants == (ServedVariant("fp32", first.unmeasured.graph),)
    failed = [each for each in released.classes[1].gates if not each.passed]
    assert {(each.variant, each.gate) for each in failed} == {("int8", "agreement")}


def test_nothing_waits_for_a_class_that_no_compressor_has(asked, ledger, world, story):
    (request,) = ledger.learn(world.frozen(named(world, "avx2", "amx-int8"), 2))
    assert isinstance(request, facts.TrainingRequested)
    (compression,) = ledger.learn(world.trained(request))
    released, again = ledger.learn(world.compressed(compression, right=145))
    assert (released.ordinal, again.cpu_class, again.candidate.version_id) == (2, "amx-int8", released.version_id)
    assert again.run_id != asked.run_id
    assert ledger.learn(measured(world, asked)) == [], "its version is served no more"
    assert ledger.catalogue.aliases["digits", "champion"].released == released


def test_a_held_training_begins_with_the_release_that_is_measured_elsewhere(ledger, world, asked):
    applied = named(world, "avx2", "amx-int8")
    (request,) = ledger.learn(world.frozen(applied, 2))
    (held,) = ledger.learn(world.frozen(applied, 3))
    assert isinstance(held, facts.TrainingHeld)
    (compression,) = ledger.learn(world.trained(request))
    decided = ledger.learn(world.compressed(compression, right=145))
    kinds = [type(each) for each in decided]
    assert kinds == [facts.ModelReleased, facts.TrainingRequested, facts.CompressionRequested]


def test_a_run_that_failed_is_asked_for_with_the_next_spec(asked, ledger, world):
    assert ledger.learn(world.failed(asked)) == []
    (again,) = ledger.learn(named(world, "amx-int8"))
    assert again == replace(asked, spec=again.spec)


def test_a_measurement_of_another_class_is_passed_over(asked, ledger, world):
    objection = ledger.learn(replace(measured(world, asked), cpu_class="avx512-vnni"))
    assert "was asked for on amx-int8, and was measured on avx512-vnni" in objection.reason


def test_a_version_that_comes_back_has_what_its_classes_served(asked, ledger, world):
    second = ledger.decide(measured(world, asked))
    (request,) = ledger.learn(world.frozen(named(world, "avx2", "amx-int8"), 2))
    (compression,) = ledger.learn(world.trained(request))
    ledger.learn(world.compressed(compression, right=145))
    (back,) = ledger.grant(Rollback("digits", 1))
    assert back.classes == second.classes


def test_a_recalibration_has_its_classes_measured_anew(asked, ledger, world):
    ledger.decide(measured(world, asked))
    (training,) = ledger.learn(world.frozen(named(world, "avx2", "amx-int8"), 2))
    assert ledger.learn(world.failed(training)) == []
    (request,) = ledger.grant(Recalibration("digits"))
    released, again = ledger.learn(world.compressed(request))
    assert [each.cpu_class for each in released.classes] == ["avx2"]
    assert (again.cpu_class, again.candidate.dataset) == ("amx-int8", request.candidate.dataset)


def test_what_came_too_late_is_served_once_its_version_is_back(asked, ledger, world):
    (request,) = ledger.learn(world.frozen(named(world, "avx2", "amx-int8"), 2))
    (compression,) = ledger.learn(world.trained(request))
    ledger.learn(world.compressed(compression, right=145))
    assert ledger.learn(measured(world, asked)) == []
    back, again = ledger.grant(Rollback("digits", 1))
    assert [each.cpu_class for each in back.classes] == ["avx2"]
    assert again == replace(asked, spec=again.spec)
    assert [each.cpu_class for each in ledger.decide(measured(world, again)).classes] == ["avx2", "amx-int8"]


def test_a_run_that_nobody_does_keeps_nothing_of_a_version_that_is_let_go(asked, ledger, world):
    version = ledger.catalogue.versions["digits", asked.candidate.version_id]
    ledger.write(facts.VersionRetired("digits", "digits", version.trained.version_id))
    assert asked.run_id not in roots(ledger.catalogue, {}, START).live_runs


def test_what_was_measured_of_variants_from_before_is_not_remembered(asked, ledger, world):
    (training,) = ledger.learn(world.frozen(named(world, "avx2", "amx-int8"), 2))
    assert ledger.learn(world.failed(training)) == []
    (request,) = ledger.grant(Recalibration("digits"))
    _, again = ledger.learn(world.compressed(request))
    ledger.decide(measured(world, again))
    (version,) = ledger.catalogue.versions.values()
    assert ledger.learn(measured(world, asked, agreement=0.4)) == []
    assert [*ledger.catalogue.versions.values()] == [version]


def test_what_is_measured_while_a_recalibration_fails_is_served(asked, ledger, world):
    (training,) = ledger.learn(world.frozen(named(world, "avx2", "amx-int8"), 2))
    assert ledger.learn(world.failed(training)) == []
    (request,) = ledger.grant(Recalibration("digits"))
    assert len(ledger.decide(measured(world, asked)).classes) == 2
    assert ledger.learn(world.failed(request)) == []
    assert len(ledger.catalogue.aliases["digits", "champion"].released.classes) == 2
