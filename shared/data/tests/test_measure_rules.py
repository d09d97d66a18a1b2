"""What a document may say of measures and of the class that is looked for."""

from __future__ import annotations

import pytest
from headrace_data.spec import SpecInvalid, load_pipeline, parse_canonical

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: claims}}
stream:
  topic: claims
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: {label}, role: label}}
train: {{network: {{kind: mlp}}{train}}}
compress: {{gates: {{{gates}}}}}
"""


def document(label: str = "string", train: str = "", gates: str = "") -> str:
    return DOCUMENT.format(label=label, train=train, gates=gates)


def test_what_is_said_of_measures_is_in_no_digest_until_it_is_said() -> None:
    plain = load_pipeline(document()).canonical_json().decode()
    assert not any(f'"{name}"' in plain for name in ("measure", "limits", "worse", "positive", "threshold"))


@pytest.mark.parametrize(
    ("label", "train", "gates"),
    [
        ("string", ", positive: fraud", "measure: pr_auc, limits: {recall: 0.8, log_loss: 0.4}, worse: {f1: 0.01}"),
        ("bool", ", positive: true", "measure: roc_auc"),
        ("int64", ", positive: 1, threshold: {maximise: f1}", "measure: f1"),
        ("bool", ", threshold: {costs: {missed: 20, falseAlarm: 1}}", "measure: f1"),
        ("float64", "", "measure: mae, limits: {rmse: 3.5}, worse: {r2: 0.01}"),
        ("float64", ", task: quantile", "measure: coverage_error, limits: {coverage: 0.7}"),
    ],
)
def test_any_measure_of_the_task_may_be_named(label: str, train: str, gates: str) -> None:
    pipeline = load_pipeline(document(label, train, gates))
    assert pipeline.compress.gates.measure
    assert pipeline.positive in (None, "fraud", 1)


@pytest.mark.parametrize(
    ("label", "train", "gates", "told"),
    [
        (
            "string",
            "",
            "measure: pr_auk",
            "compress.gates.measure: expected one of accuracy, log_loss,.*did you mean 'pr",
        ),
        ("float64", "", "measure: pr_auc", "expected one of rmse, mae, r2, measures of a regression, got 'pr_auc'"),
        ("string", "", "limits: {rmse: 3}", "compress.gates.limits.rmse: expected one of accuracy"),
        ("string", "", "worse: {recal: 0.1}", "compress.gates.worse.recal: .*did you mean 'recall'"),
        ("string", "", "worse: {recall: -0.1}", "compress.gates.worse.recall: expected greater than or equal to 0"),
        ("string", ", positive: 1", "", "train.positive: expected a value of type string, as the label's, got 1"),
        ("int32", ", positive: true", "", "train.positive: expected a value of type int32, as the label's, got True"),
        (
            "float32",
            ", positive: 1",
            "",
            "positive: expected none for a regression, as only a classification heeds it",
        ),
        ("float32", ", threshold: {maximise: f1}", "", "train.threshold: expected none for a regression"),
        ("string", "", "limits: {recall: 1.2}", "compress.gates.limits.recall: expected 0 to 1, got 1.2"),
        ("string", "", "limits: {log_loss: -1}", "limits.log_loss: expected a finite number from 0, got -1"),
        ("float32", "", "limits: {r2: 1.5}", "limits.r2: expected a finite number of at most 1, got 1.5"),
        ("string", "", "worse: {recall: 1}", "worse.recall: expected less than 1, as recall is a share, got 1"),
        ("int8", ", positive: 300", "", "positive: expected a value from -128 to 127, which is what int8 holds, got 3"),
        ("int32, range: [0, 3]", ", positive: 7", "", "expected a value from 0 to 3, as the label's range says, got 7"),
        ("uint8", ", positive: -1", "", "train.positive: expected a value from 0 to 255"),
        ("string", ", positive: ''", "", "train.positive: expected a text that is not empty"),
        (
            "float32",
            ", task: quantile",
            "measure: coverage",
            "one of pinball, median_mae, coverage_error, got coverage: who tells nothing would win",
        ),
        ("bool", ", threshold: {}", "", "train.threshold: expected either maximise or costs, got neither"),
        ("bool", ", threshold: {maximise: f2}", "", "train.threshold.maximise: expected one of f1, accuracy, balanced"),
    ],
)
def test_what_the_task_does_not_have_is_refused(label: str, train: str, gates: str, told: str) -> None:
    with pytest.raises(SpecInvalid, match=told):
        load_pipeline(document(label, train, gates))


def test_every_impossible_thing_is_told_at_once() -> None:
    with pytest.raises(SpecInvalid) as told:
        load_pipeline(
            document("int8", ", positive: 300", "measure: rmse, limits: {recall: 1.2, f1: 0.5}, worse: {f1: 2}")
        )
    places = {problem.path for problem in told.value.problems}
    gates = "compress.gates"
    assert places == {"train.positive", f"{gates}.measure", f"{gates}.limits.recall", f"{gates}.worse.f1"}


def test_a_spec_from_before_these_rules_is_read_as_it_was() -> None:
    plain = load_pipeline(document("int8", ", positive: 3", "limits: {recall: 0.5}")).canonical_json()
    old = plain.replace(b'"positive":3', b'"positive":300').replace(b'"recall":0.5', b'"recall":1.5')
    assert old != plain
    assert parse_canonical(old).train.positive == 300
