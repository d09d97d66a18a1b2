"""A version that replaces no comparable one must answer no worse than one that looks at no feature."""

from dataclasses import replace

import pytest
from headrace_data.spec import load_pipeline
from headrace_data.tasks import task_of
from headrace_model_registry.core import facts
from headrace_model_registry.core.facts.classes import GateResult

WORSE = {"accuracy": 0.24, "baseline_accuracy/yes": 0.3}
IMBALANCED = {"accuracy": 0.9, "baseline_accuracy/ok": 0.95, "accuracy/ok": 0.9, "accuracy/fraud": 0.85}


@pytest.mark.parametrize(
    ("metrics", "balanced", "below"),
    [
        (WORSE, False, True),
        ({"accuracy": 0.3, "baseline_accuracy/yes": 0.3}, False, False),
        ({"accuracy": 0.3 - 1e-12, "baseline_accuracy/yes": 0.3}, False, False),
        ({"accuracy": 0.24}, False, False),
        ({}, False, False),
        (IMBALANCED, False, True),
        (IMBALANCED, True, False),
        (IMBALANCED | {"accuracy/ok": 0.6, "accuracy/fraud": 0.3}, True, True),
        ({"accuracy": 0.9, "baseline_accuracy/ok": 1.0, "accuracy/ok": 0.9}, True, False),
        ({"rmse": 4096.0, "baseline_rmse": 0.88}, False, True),
        ({"rmse": 0.88, "baseline_rmse": 0.88}, False, False),
        ({"rmse": 0.88 + 1e-12, "baseline_rmse": 0.88}, False, False),
        ({"rmse": 4096.0}, False, False),
        ({"rmse": 1e-300, "baseline_rmse": 0.0}, False, True),
        ({"rmse": 0.0, "baseline_rmse": 0.0}, False, False),
    ],
)
def test_a_version_is_held_against_its_baseline(metrics, balanced, below):
    task = task_of("", metrics)
    assert bool(task.why_useless(metrics, task.headline, balanced=balanced)) is below


def compressed(story, world, number=1, **metrics):
    """Return the result for a version of these metrics."""
    return world.compressed(story.ledger.decide(replace(world.trained(story.train(number)), metrics=metrics)))


def test_a_first_version_worse_than_its_baseline_is_refused_with_both_figures_and_the_way_out(story, world, ledger):
    refused = ledger.decide(compressed(story, world, **WORSE))

    assert isinstance(refused, facts.ModelRefused)
    assert "accuracy 0.2400, and 0.3000 by always answering 'yes'" in refused.reason
    assert "compress.gates.baseline: ignored" in refused.reason
    assert len(refused.gates) == 16
    assert ledger.catalogue.champion("digits") is None


def test_a_version_that_replaces_another_is_held_against_that_one(story, world, ledger):
    story.release(1)
    assert isinstance(ledger.decide(compressed(story, world, 2, **WORSE)), facts.ModelReleased)


def test_a_pipeline_may_ask_for_the_release_all_the_same(story, world, ledger):
    document = world.document(seed=8).replace(b"gates: {", b"gates: {baseline: ignored, ")
    pipeline = load_pipeline(document)
    spec = facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest)
    ledger.learn(facts.PipelineApplied(pipeline.name, spec, 3))
    frozen = replace(world.frozen(story.applied), spec_digest=spec.digest)
    trained = replace(world.trained(ledger.decide(frozen)), metrics=WORSE)

    assert isinstance(ledger.decide(world.compressed(ledger.decide(trained))), facts.ModelReleased)


def test_a_feature_that_no_row_has_is_told_among_the_gates_and_stops_nothing(story, world, ledger):
    released = ledger.decide(compressed(story, world, **{"accuracy": 0.9, "missing/device.os": 1.0}))
    assert isinstance(released, facts.ModelReleased)
    assert GateResult("fp32", "missing/device.os", True, 1.0, 1.0) in released.gates


def test_the_gate_is_in_no_digest_until_a_document_names_it(world):
    silent = load_pipeline(world.document())
    named = load_pipeline(world.document().replace(b"gates: {", b"gates: {baseline: required, "))
    assert b"baseline" not in silent.canonical_json()
    assert named.digest == silent.digest
