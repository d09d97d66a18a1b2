"""Pipelines that answer which tags a row has, and serve one model: tags of other names are another question."""

from dataclasses import replace

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core import facts
from headrace_model_registry.core.evolution import require_same_rows
from headrace_runtime.errors import FailedPrecondition

LABEL = "type: int64, role: label, range: [0, 9]"


def pipeline(world, places, name="digits"):
    document = world.document(name=name, topic="digits").decode().replace("train:\n", "train:\n  model: tags\n")
    told = f", places: [{places}]" if places else ""
    return load_pipeline(document.replace(LABEL, f"type: bool, shape: [2]{told}, role: label"))


def applied(world, *said):
    made = pipeline(world, *said)
    return facts.PipelineApplied(made.name, facts.PipelineSpec(made.canonical_json(), made.digest), 3)


def compressing(world, ledger, fact, number):
    ledger.learn(fact)
    request = ledger.decide(world.frozen(fact, number))
    metrics = {"mean_pr_auc": 0.7, "baseline_mean_pr_auc": 0.2}
    return ledger.decide(replace(world.trained(request, model="tags"), task="multilabel", metrics=metrics))


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [("a, b", "a, b", True), ("a, b", "b, a", False), ("a, b", "a, c", False), ("", "a, b", True), ("a, b", "", True)],
)
def test_versions_are_compared_where_their_places_stand_for_the_same(world, ledger, before, now, same):
    request = compressing(world, ledger, applied(world, before), 1)
    released = ledger.decide(world.compressed(request))
    assert isinstance(released, facts.ModelReleased)
    again = compressing(world, ledger, applied(world, now, "others"), 2)
    assert (again.champion is not None) == same


@pytest.mark.parametrize(("before", "now"), [("a, b", "b, a"), ("a, b", "")])
def test_places_may_be_named_once_and_are_not_renamed(world, before, now):
    require_same_rows(pipeline(world, before), pipeline(world, "").stream)
    with pytest.raises(FailedPrecondition, match=r"\(schema field 'digit'\)"):
        require_same_rows(pipeline(world, now), pipeline(world, before).stream)
