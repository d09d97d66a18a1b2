"""A pipeline that ranks: its gate, its baseline, and the choice of the champion by NDCG over joined rows."""

from dataclasses import replace

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts


def applied(world):
    document = world.document().decode().replace("train:\n", "train:\n  task: ranking\n")
    document = document.replace("role: id}", "role: id}\n    - {name: user, type: string, role: group}")
    pipeline = load_pipeline(document.replace("agreement: 0.98", "ndcgDrop: 0.02"))
    return facts.PipelineApplied(pipeline.name, facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest), 3)


def trained(world, request, ndcg, chance=0.5):
    metrics = {"ndcg_at_10": ndcg, "mrr": ndcg, "baseline_ndcg_at_10": chance}
    return replace(world.trained(request), task="ranking", metrics=metrics)


def measured(world, request, ndcg, int8=None, champion=0.0):
    result = world.compressed(request)
    variants = tuple(
        replace(each, metrics={**each.metrics, "ndcg_at_10": value})
        for each, value in zip(result.variants, (ndcg, int8 or ndcg), strict=True)
    )
    scores = {request.candidate.version_id: ndcg}
    if request.champion:
        scores[request.champion.version_id] = champion
    datasets = dict.fromkeys(each.dataset.dataset_id for each in (request.candidate, request.champion) if each)

    def evaluations(of):
        return tuple(
            facts.Evaluation(version, dataset, 150, {"ndcg_at_10": value, "mrr": value}, "ranking")
            for dataset in of
            for version, value in scores.items()
        )

    joined = evaluations([""]) if len(datasets) > 1 else ()
    return replace(result, variants=variants, evaluations=evaluations(datasets), joined=joined)


@pytest.mark.parametrize(("int8", "served"), [(0.785, "int8"), (0.775, "fp32")])
def test_a_variant_may_lose_of_ndcg_what_its_gate_says(world, ledger, int8, served):
    pipeline = applied(world)
    ledger.learn(pipeline)
    request = ledger.decide(trained(world, ledger.decide(world.frozen(pipeline, 1)), 0.8))
    released = ledger.decide(measured(world, request, 0.8, int8))
    assert (type(released), released.variant) == (facts.ModelReleased, served)
    assert "ndcgDrop" in {gate.gate for gate in released.gates}


@pytest.mark.parametrize(("second", "kept"), [(0.81, facts.ModelReleased), (0.79, facts.ModelRefused)])
def test_the_better_order_on_the_same_rows_is_the_champion(world, ledger, second, kept):
    pipeline = applied(world)
    ledger.learn(pipeline)
    ledger.decide(measured(world, ledger.decide(trained(world, ledger.decide(world.frozen(pipeline, 1)), 0.8)), 0.8))
    request = ledger.decide(trained(world, ledger.decide(world.frozen(pipeline, 2)), second))
    assert isinstance(ledger.decide(measured(world, request, second, champion=0.8)), kept)


def test_an_order_that_is_worse_than_a_random_one_is_refused(world, ledger):
    pipeline = applied(world)
    ledger.learn(pipeline)
    request = ledger.decide(trained(world, ledger.decide(world.frozen(pipeline, 1)), 0.4))
    refused = ledger.decide(measured(world, request, 0.4))
    assert isinstance(refused, facts.ModelRefused)
    assert "ndcg_at_10 0.4000, and 0.5000 by a random order" in refused.reason
