"""`train.privacy`: what goes with it, and digests of specs without it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from headrace_data.errors import SpecInvalid
from headrace_data.spec import Pipeline, load_pipeline

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: held}}
stream:
  topic: held
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, role: feature, nullable: true}}
    - {{name: c, type: string, role: feature}}
    - {{name: y, type: {label}, role: label}}
prepare:
  transform: {transform}
  freeze: {{afterRecords: 100}}
train: {train}
"""
HASHED = {"c": {"encode": "hash"}}
MLP = {"kind": "mlp", "hidden": [4]}
SPENT = {"epsilon": 2, "delta": 1e-5}


def loaded(transform: dict[str, Any] = HASHED, label: str = "string", privacy: Any = SPENT, **train: Any) -> Pipeline:
    said = {"network": MLP, "privacy": privacy, **train}
    return load_pipeline(DOCUMENT.format(label=label, transform=json.dumps(transform), train=json.dumps(said)))


def problems(**said: Any) -> list[str]:
    with pytest.raises(SpecInvalid) as refused:
        loaded(**said)
    return [str(problem) for problem in refused.value.problems]


def test_a_total_has_room_for_one_run() -> None:
    assert loaded(HASHED | {"x": {"scale": "none"}}, privacy=SPENT | {"total": 2}).train.privacy is not None
    (told,) = problems(transform=HASHED | {"x": {"scale": "none"}}, privacy=SPENT | {"total": 1.5})
    assert "train.privacy.total: expected at least epsilon, which one run may spend, 2, got 1.5" in told


def test_what_looks_at_no_row_goes_with_privacy() -> None:
    edges = {"kind": "buckets", "edges": [1, 2]}
    for said in ({"encode": edges, "impute": {"constant": 0}}, {"scale": "none"}, {"encode": edges}):
        privacy = loaded(HASHED | {"x": said}).train.privacy
        assert privacy is not None
        assert (privacy.epsilon, privacy.clip, privacy.fits) == (2, 1.0, "refused")
        assert privacy.plain() == {"epsilon": 2.0, "delta": 1e-5, "clip": 1.0}


@pytest.mark.parametrize(
    ("transform", "label", "named"),
    [
        (HASHED | {"x": {"scale": "standard"}}, "string", "x"),
        (HASHED | {"x": {"impute": "mean"}}, "string", "x"),
        (HASHED | {"x": {"encode": "buckets"}}, "string", "x"),
        ({"c": {"encode": "onehot"}}, "string", "c"),
        (HASHED, "float64", "y"),
        ({"c": {"encode": "ordinal"}, "x": {"scale": "robust"}}, "float64", "x, c, y"),
    ],
)
def test_what_is_fitted_on_rows_is_refused_or_allowed_by_name(
    transform: dict[str, Any], label: str, named: str
) -> None:
    (told,) = problems(transform=transform, label=label)
    assert "train.privacy.fits: expected exact" in told
    assert told.endswith(f"got refused and fits of {named}")
    assert loaded(transform, label, SPENT | {"fits": "exact"}).train.privacy is not None


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"network": {"kind": "trees"}}, "train.network.kind: expected a network, which learns by gradients"),
        ({"from": "champion"}, "train.from: expected none, as what a version learned"),
        ({"classWeights": "balanced"}, "train.classWeights: expected none"),
        ({"augment": {"mixup": 0.2}}, "train.augment.mixup: expected 0"),
        ({"augment": {"oversample": 0.5}}, "train.augment.oversample: expected 0"),
        ({"optimizer": {"accumulate": 2}}, "train.optimizer.accumulate: expected 1"),
        ({"compute": {"precision": "bf16"}}, "train.compute.precision: expected fp32"),
        ({"compareWith": "trees"}, "train.compareWith: expected none"),
    ],
)
def test_what_does_not_go_with_privacy_is_told_by_path(train: dict[str, Any], told: str) -> None:
    assert told in "\n".join(problems(**train))


@pytest.mark.parametrize("rule", ["nearDuplicates: {{fields: [c]}}", "outliers: {{}}"])
def test_no_row_may_decide_whether_others_are_learned_from(rule: str) -> None:
    near = DOCUMENT.replace("prepare:", f"prepare:\n  clean: {{{{{rule}}}}}")
    said = {"network": MLP, "privacy": SPENT | {"fits": "exact"}}
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(near.format(label="string", transform=json.dumps(HASHED), train=json.dumps(said)))
    (told,) = refused.value.problems
    assert f"prepare.clean.{rule.split(':')[0]}: expected none, as a row would decide" in str(told)


def test_variants_that_learn_from_rows_are_refused() -> None:
    document = DOCUMENT.format(
        label="string", transform=json.dumps(HASHED), train=json.dumps({"network": MLP, "privacy": SPENT})
    )
    chain = "{kind: chain, name: both, steps: [{kind: int8-static}, {kind: float16-weights}]}"
    for variant, refused in (("{kind: int8-dynamic}", 0), ("{kind: int8-static}", 1), (chain, 1)):
        text = document + f"compress: {{variants: [{variant}]}}\n"
        try:
            load_pipeline(text)
            found = []
        except SpecInvalid as error:
            found = [str(problem) for problem in error.problems]
        assert len(found) == refused, found
        assert all("expected variants that look at no training row" in told for told in found)


def test_a_search_tries_nothing_that_does_not_go_with_privacy() -> None:
    tune = {"space": {"augment.mixup": {"low": 0, "high": 0.5}}}
    assert "train.tune.space" in "\n".join(problems(tune=tune))


def test_what_losses_give_away_is_limited_where_rows_have_some() -> None:
    document = DOCUMENT.format(label="float64", transform=json.dumps(HASHED), train=json.dumps({"network": MLP}))
    gated = document + "compress: {gates: {membershipAuc: 0.55}}\n"
    assert load_pipeline(gated).compress.gates.membership_auc == 0.55
    assert "membershipAuc" not in load_pipeline(document).compress.gates.plain()
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(gated.replace('"network"', '"task": "quantile", "network"'))
    (problem,) = refused.value.problems
    assert "compress.gates.membershipAuc: expected none for a quantile, as only classification or regression" in str(
        problem
    )


@pytest.mark.parametrize(
    "privacy", [{"epsilon": 0, "delta": 1e-5}, {"epsilon": 2}, {"epsilon": 2, "delta": 1}, SPENT | {"clip": 0}]
)
def test_figures_that_promise_nothing_are_refused(privacy: dict[str, Any]) -> None:
    assert all("train.privacy." in told for told in problems(privacy=privacy))


def test_a_spec_without_it_has_no_word_of_it() -> None:
    assert "privacy" not in loaded(privacy=None).train.plain()
