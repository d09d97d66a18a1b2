"""What a document may say of measures and of the class that is looked for."""

from __future__ import annotations

import pytest
from headrace_data.spec import SpecInvalid, load_pipeline

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
        ("float32", ", positive: 1", "", "train.positive: expected none for a regression"),
        ("float32", ", threshold: {maximise: f1}", "", "train.threshold: expected none for a regression"),
        ("bool", ", threshold: {}", "", "train.threshold: expected either maximise or costs, got neither"),
        ("bool", ", threshold: {maximise: f2}", "", "train.threshold.maximise: expected one of f1, accuracy, balanced"),
    ],
)
def test_what_the_task_does_not_have_is_refused(label: str, train: str, gates: str, told: str) -> None:
    with pytest.raises(SpecInvalid, match=told):
        load_pipeline(document(label, train, gates))
