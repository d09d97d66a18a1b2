"""A pipeline that predicts a number: its gates, its comparison, and what happens when the question changes."""

from dataclasses import replace

import pytest
from headrace_data.spec import load_pipeline
from headrace_data.tasks import COMMON_GATES, TASKS
from headrace_data.tasks.regression import RMSE
from headrace_model_registry.core import facts
from headrace_model_registry.core.choice import ordered
from headrace_model_registry.core.comparison import Comparison, compare
from headrace_model_registry.core.facts import Evaluation, Variant
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.gates import Limit, judge

LIMITS = [
    Limit(gate, value)
    for gate, value in zip((*TASKS["regression"].gates, *COMMON_GATES), (0.05, 1.0, 1.5, 0.99), strict=True)
]
GATES = ["errorRise", "sizeRatio", "latencyRatio", "benefit"]


def variant(name, rmse, size=1000.0, latency=0.2):
    metrics = {"rmse": rmse, "mae": rmse, "r2": 0.5, "size_bytes": size, "latency_ms_batch_1": latency}
    return Variant(name, Artifact(f"store/{name}", f"sha256:{name}", int(size)), metrics)


def rise_of(before, after):
    results = judge([variant("fp32", before), variant("int8", after)], LIMITS)
    return next(result for result in results if (result.variant, result.gate) == ("int8", "errorRise"))


def test_a_regression_has_gates_of_its_own():
    results = judge([variant("fp32", 300.0), variant("int8", 312.0, size=400.0, latency=0.1)], LIMITS)

    assert [(result.variant, result.gate) for result in results] == [
        (name, gate) for name in ("fp32", "int8") for gate in GATES
    ]
    assert all(result.passed for result in results)
    assert results[4].measured == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [(100.0, 105.0, True), (100.0, 105.1, False), (100.0, 80.0, True), (0.0, 0.0, True), (0.0, 1e-9, False)],
)
def test_the_error_may_rise_to_its_limit(before, after, passed):
    assert rise_of(before, after).passed is passed


@pytest.mark.parametrize(("before", "after"), [(float("nan"), 1.0), (1.0, float("nan")), (1.0, float("inf"))])
def test_no_error_passes_by_being_none(before, after):
    assert not rise_of(before, after).passed


def test_a_variant_without_its_error_is_not_served():
    broken = replace(variant("int8", 1.0, latency=0.01), metrics={"size_bytes": 1.0, "latency_ms_batch_1": 0.01})
    variants = [variant("fp32", 1.0), broken]

    assert ordered(variants, judge(variants, LIMITS), "fastest", RMSE) == (variants[0],)


def errors(version, dataset, rmse, rows):
    return Evaluation(version, dataset, rows, {"rmse": rmse, "mae": rmse, "r2": 0.0})


def test_errors_are_summed_over_the_rows_of_both_splits():
    evaluations = [
        errors("new", "big", 10.0, 900),
        errors("new", "small", 40.0, 100),
        errors("old", "big", 11.0, 900),
        errors("old", "small", 1.0, 100),
    ]

    compared = compare(evaluations, [], "new", "old", ["big", "small"], RMSE)

    assert isinstance(compared, Comparison)
    assert compared.candidate.amount == pytest.approx(250_000.0)
    assert compared.champion.amount == pytest.approx(109_000.0)
    assert compared.candidate.rows == 1000
    assert compared.worse
    assert str(compared.candidate) == "rmse 15.8114 over 1000 rows"
    assert not compare(evaluations, [], "old", "new", ["big", "small"], RMSE).worse


@pytest.mark.parametrize(("rmse", "worse"), [(2.0, False), (2.0 + 1e-12, False), (1.9, False), (2.001, True)])
def test_the_newer_version_wins_a_tie(rmse, worse):
    compared = compare([errors("new", "d", rmse, 10), errors("old", "d", 2.0, 10)], [], "new", "old", ["d"], RMSE)

    assert compared.worse is worse


@pytest.mark.parametrize("rmse", [float("nan"), float("inf"), -1.0])
def test_an_error_that_is_none_is_told(rmse):
    found = compare([errors("new", "d", rmse, 10), errors("old", "d", 2.0, 10)], [], "new", "old", ["d"], RMSE)

    assert found == f"the rmse of version new on dataset d is {rmse}, expected a finite number from 0"
    assert compare([errors("new", "d", 1.0, 10)], [], "new", "old", ["d"], RMSE) == (
        "the rmse of version old on dataset d was not measured"
    )


def applied(world, *, nullable=False):
    document = world.document().decode().replace("train:\n", "train:\n  task: regression\n")
    document = document.replace("agreement: 0.98", "errorRise: 0.05")
    if nullable:
        document = document.replace("role: feature", "role: feature, nullable: true")
        document = document.replace("prepare: {", "prepare: {transform: {pixels: {impute: mean}}, ")
    pipeline = load_pipeline(document)
    return facts.PipelineApplied(pipeline.name, facts.PipelineSpec(pipeline.canonical_json(), pipeline.digest), 3)


def measured(world, request, rmse, champion=0.0):
    scores = {"candidate": rmse, "champion": champion}
    references = {"candidate": request.candidate, "champion": request.champion}
    there = {name: each for name, each in references.items() if each is not None}
    evaluations = tuple(
        errors(each.version_id, dataset_id, scores[name], 150)
        for dataset_id in dict.fromkeys(each.dataset.dataset_id for each in there.values())
        for name, each in there.items()
    )
    variants = (variant("fp32", rmse), variant("int8", rmse * 1.01, size=300.0, latency=0.1))
    return replace(world.compressed(request), variants=variants, evaluations=evaluations)


def trained(world, request, rmse):
    return replace(world.trained(request), metrics={"rmse": rmse, "mae": rmse, "r2": 0.5})


def test_a_regression_is_released_and_a_worse_one_refused(world, ledger):
    pipeline = applied(world)
    ledger.learn(pipeline)
    first = ledger.decide(trained(world, ledger.decide(world.frozen(pipeline, 1)), 20.0))
    released = ledger.decide(measured(world, first, 20.0))
    second = ledger.decide(trained(world, ledger.decide(world.frozen(pipeline, 2)), 21.0))

    refused = ledger.decide(measured(world, second, 21.0, champion=20.0))

    assert isinstance(released, facts.ModelReleased)
    assert released.variant == "int8"
    assert [gate.gate for gate in released.gates] == [*GATES, "finite", "repeatable"] * 2
    assert isinstance(refused, facts.ModelRefused)
    assert refused.reason.startswith(
        "worse than the champion on the same rows: rmse 21 over 300 rows, version 1 rmse 20 over 300 rows"
    )


def test_a_number_is_not_compared_with_a_class(story, world, ledger):
    story.release(1)
    training = ledger.decide(applied(world))

    compression = ledger.decide(trained(world, training, 20.0))

    assert compression.champion is None
    assert isinstance(ledger.decide(measured(world, compression, 20.0)), facts.ModelReleased)


def test_a_model_that_knows_no_gaps_is_not_asked_about_them(world, ledger):
    pipeline = applied(world)
    ledger.learn(pipeline)
    first = ledger.decide(trained(world, ledger.decide(world.frozen(pipeline, 1)), 20.0))
    ledger.decide(measured(world, first, 20.0))
    with_gaps = applied(world, nullable=True)
    assert ledger.learn(with_gaps) == []

    compression = ledger.decide(trained(world, ledger.decide(world.frozen(with_gaps, 2)), 30.0))

    assert compression.champion is None
