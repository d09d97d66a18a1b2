"""Gates and the choice of the champion by any measure of the task."""

from dataclasses import replace

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts

FOUND = {"accuracy": 0.98, "recall": 0.9, "pr_auc": 0.8, "log_loss": 0.1}


def learned(ledger, world, gates):
    """Apply a pipeline with such gates, and return its training run on a first dataset."""
    document = world.document().replace(b"gates: {", f"gates: {{{gates}, ".encode())
    pipeline = load_pipeline(document)
    applied = facts.PipelineApplied(pipeline.name, facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest), 3)
    ledger.learn(applied)
    return applied, ledger.decide(world.frozen(applied))


def judged(world, request, fp32, int8=None, **more):
    result = world.compressed(request)
    first, second = result.variants
    given = (fp32, int8 or fp32)
    both = tuple(
        replace(each, metrics={**each.metrics, **metrics}) for each, metrics in zip((first, second), given, strict=True)
    )
    return replace(result, variants=both, **more)


@pytest.mark.parametrize(
    ("limits", "passed"),
    [
        ("recall: 0.9", True),
        ("recall: 0.95", False),
        ("log_loss: 0.1", True),
        ("log_loss: 0.05", False),
        ("f1: 0.1", False),
    ],
)
def test_a_version_must_reach_its_limits_fp32_too(ledger, world, limits, passed):
    _, request = learned(ledger, world, f"limits: {{{limits}}}")
    decided = ledger.decide(judged(world, ledger.decide(world.trained(request)), FOUND))
    assert isinstance(decided, facts.ModelReleased) is passed
    name = limits.partition(":")[0]
    own = [each for each in decided.gates if each.gate == name]
    assert [(each.variant, each.passed) for each in own] == [("fp32", passed), ("int8", passed)]
    if not passed:
        assert f"fp32 {name}" in decided.reason


@pytest.mark.parametrize(("after", "variant"), [(0.795, "int8"), (0.78, "fp32"), (0.9, "int8")])
def test_a_variant_may_be_worse_than_fp32_up_to_a_limit(ledger, world, after, variant):
    _, request = learned(ledger, world, "worse: {pr_auc: 0.01}")
    decided = ledger.decide(judged(world, ledger.decide(world.trained(request)), FOUND, {**FOUND, "pr_auc": after}))
    assert decided.variant == variant
    result = next(each for each in decided.gates if (each.variant, each.gate) == ("int8", "worse/pr_auc"))
    assert result.measured == pytest.approx(0.8 - after)


@pytest.mark.parametrize(
    ("gates", "divergence", "variant"),
    [("klDivergence: 0.02", 0.01, "int8"), ("klDivergence: 0.02", 0.03, "fp32"), ("sizeRatio: 0.9", 0.03, "int8")],
)
def test_a_gate_without_a_limit_judges_nothing(ledger, world, gates, divergence, variant):
    _, request = learned(ledger, world, gates)
    trained = ledger.decide(world.trained(request))
    decided = ledger.decide(judged(world, trained, FOUND, {**FOUND, "kl_divergence": divergence}))
    assert decided.variant == variant
    assert ("klDivergence" in {each.gate for each in decided.gates}) == gates.startswith("kl")


def test_a_first_version_is_held_against_its_baseline_by_the_measure(ledger, world):
    _, request = learned(ledger, world, "measure: pr_auc")
    blind = {"accuracy": 0.98, "pr_auc": 0.015, "baseline_accuracy/ok": 0.98, "baseline_pr_auc": 0.02}
    trained = replace(world.trained(request), metrics=blind)
    refused = ledger.decide(world.compressed(ledger.decide(trained)))
    assert isinstance(refused, facts.ModelRefused)
    assert "pr_auc 0.0150, and 0.0200 by always answering 'ok'" in refused.reason


@pytest.mark.parametrize("told", [{}, {"pr_auc": float("nan")}])
def test_a_first_version_whose_measure_says_nothing_is_not_released(ledger, world, told):
    _, request = learned(ledger, world, "measure: pr_auc")
    trained = replace(world.trained(request), metrics={"accuracy": 0.98, **told})
    refused = ledger.decide(world.compressed(ledger.decide(trained)))
    assert isinstance(refused, facts.ModelRefused)
    assert "pr_auc, by which versions are judged, was not measured" in refused.reason


def measured(world, request):
    trained = world.trained(request)
    return replace(trained, metrics={**trained.metrics, "pr_auc": 0.6})


@pytest.mark.parametrize(("own", "released"), [(0.7, True), (0.5, False), (0.6, True)])
def test_the_champion_is_chosen_by_the_measure_on_the_rows_of_both_splits(ledger, world, own, released):
    applied, request = learned(ledger, world, "measure: pr_auc")
    ledger.decide(world.compressed(ledger.decide(measured(world, request))))
    second = ledger.decide(measured(world, ledger.decide(world.frozen(applied, 2))))
    scores = ((second.candidate.version_id, own), (second.champion.version_id, 0.6))
    together = tuple(facts.Evaluation(version, "", 300, {"pr_auc": value}) for version, value in scores)

    # By the accuracy alone it would be the other way round.
    right = 100 if released else 149
    compressed = replace(world.compressed(second, right, 120), joined=together)
    decided = ledger.decide(compressed)
    shown = ledger.catalogue.versions[compressed.pipeline, compressed.version_id].evaluations
    assert shown == compressed.evaluations + together

    assert isinstance(decided, facts.ModelReleased) is released
    if not released:
        assert f"worse than the champion on the same rows: pr_auc {own:.4f} over 300 rows" in decided.reason


def test_what_was_not_measured_together_is_not_compared(ledger, world):
    applied, request = learned(ledger, world, "measure: pr_auc")
    ledger.decide(world.compressed(ledger.decide(measured(world, request))))
    second = ledger.decide(measured(world, ledger.decide(world.frozen(applied, 2))))
    refused = ledger.decide(world.compressed(second))
    assert isinstance(refused, facts.ModelRefused)
    assert "on the test splits of both datasets together was not measured" in refused.reason
