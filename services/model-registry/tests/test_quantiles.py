"""A pipeline that answers quantiles: its gate and its comparison, and other levels, which are another question."""

from dataclasses import replace

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts

KNOWN = {"coverage": 0.8, "coverage_error": 0.0, "median_mae": 9.0}


def applied(world, levels="0.1, 0.5, 0.9"):
    document = world.document().decode().replace("train:\n", f"train:\n  task: quantile\n  quantiles: [{levels}]\n")
    pipeline = load_pipeline(document.replace("agreement: 0.98", "errorRise: 0.05"))
    return facts.PipelineApplied(pipeline.name, facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest), 3)


def trained(world, request, pinball):
    return replace(world.trained(request), task="quantile", metrics={"pinball": pinball, **KNOWN})


def measured(world, request, pinball, int8=None, champion=0.0):
    result = world.compressed(request)
    variants = tuple(
        replace(each, metrics={**each.metrics, "pinball": value})
        for each, value in zip(result.variants, (pinball, int8 or pinball), strict=True)
    )
    scores = {request.candidate.version_id: pinball}
    if request.champion:
        scores[request.champion.version_id] = champion
    datasets = [each.dataset.dataset_id for each in (request.candidate, request.champion) if each]
    evaluations = tuple(
        facts.Evaluation(version, dataset, 150, {"pinball": value, **KNOWN}, "quantile")
        for dataset in dict.fromkeys(datasets)
        for version, value in scores.items()
    )
    return replace(result, variants=variants, evaluations=evaluations)


@pytest.mark.parametrize(("int8", "served"), [(10.4, "int8"), (10.6, "fp32")])
def test_the_pinball_loss_of_a_variant_may_rise_to_its_limit(world, ledger, int8, served):
    pipeline = applied(world)
    ledger.learn(pipeline)
    request = ledger.decide(trained(world, ledger.decide(world.frozen(pipeline, 1)), 10.0))
    released = ledger.decide(measured(world, request, 10.0, int8))
    assert (type(released), released.variant) == (facts.ModelReleased, served)
    assert "errorRise" in {gate.gate for gate in released.gates}


def test_a_worse_forecast_does_not_replace_a_better_one(world, ledger):
    pipeline = applied(world)
    ledger.learn(pipeline)
    ledger.decide(measured(world, ledger.decide(trained(world, ledger.decide(world.frozen(pipeline, 1)), 10.0)), 10.0))
    second = ledger.decide(trained(world, ledger.decide(world.frozen(pipeline, 2)), 11.0))
    refused = ledger.decide(measured(world, second, 11.0, champion=10.5))
    assert isinstance(refused, facts.ModelRefused)
    assert "worse than the champion on the same rows: pinball 11" in refused.reason


def test_other_levels_are_another_question(world, ledger):
    first = applied(world)
    ledger.learn(first)
    ledger.decide(measured(world, ledger.decide(trained(world, ledger.decide(world.frozen(first, 1)), 10.0)), 10.0))
    second = applied(world, "0.01, 0.5, 0.99")
    request = ledger.decide(second)
    assert isinstance(request, facts.TrainingRequested), "trained anew on the newest dataset"
    compressing = ledger.decide(trained(world, request, 30.0))
    assert compressing.champion is None
    assert isinstance(ledger.decide(measured(world, compressing, 30.0)), facts.ModelReleased)
