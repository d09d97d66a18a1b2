"""Quantiles: what their measures are by hand and beside scikit-learn, and what a document may say of them."""

from __future__ import annotations

import numpy as np
import pytest
from headrace_data.spec import SpecInvalid, load_pipeline, parse_canonical
from headrace_data.tasks import TASKS
from headrace_data.tasks.quantile import LEVELS, PINBALL, QUANTILES, OrderedLabels, QuantileScores
from sklearn.metrics import mean_pinball_loss

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: load}}
stream:
  topic: load
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: {feature}, type: float32, role: feature}}
    - {{name: y, type: {label}, role: label}}
train: {{network: {{kind: {network}}}{train}}}
compress: {{gates: {{{gates}}}}}
"""


def document(train: str = ", task: quantile", label: str = "float32", **changes: str) -> str:
    return DOCUMENT.format(**{"network": "mlp", "feature": "x", "gates": "", "label": label, "train": train, **changes})


def test_measures_by_hand() -> None:
    given = np.array([[1.0, 2.0, 4.0], [1.0, 3.0, 3.0]])
    scores = QuantileScores(LEVELS)
    scores.add({QUANTILES: given}, np.array([3, 0]))
    found = scores.quality()
    # Above: a tenth, a half and nine tenths of the distance; below: the rest of it.
    row = [(0.1 * 2 + 0.5 * 1 + 0.1 * 1) / 3, (0.9 * 1 + 0.5 * 3 + 0.1 * 3) / 3]
    assert found["pinball"] == pytest.approx(np.mean(row))
    assert (found["coverage"], found["median_mae"]) == (0.5, 2.0)
    assert found["coverage_error"] == pytest.approx(0.3)


def test_pinball_is_that_of_scikit_learn_however_rows_come() -> None:
    generator = np.random.default_rng(3)
    truth, given = generator.normal(1e9, 3.0, 500), np.sort(generator.normal(1e9, 3.0, (500, 3)), axis=1)
    whole, parts = QuantileScores(LEVELS), QuantileScores(LEVELS)
    whole.add({QUANTILES: given}, truth)
    for start in range(0, 500, 77):
        parts.add({QUANTILES: given[start : start + 77]}, truth[start : start + 77])
    expected = np.mean([mean_pinball_loss(truth, given[:, at], alpha=level) for at, level in enumerate(LEVELS)])
    assert whole.quality()["pinball"] == pytest.approx(expected, rel=1e-9)
    assert parts.quality() == pytest.approx(whole.quality(), rel=1e-9)


def test_the_baseline_is_the_quantiles_of_the_training_split() -> None:
    labels, some = OrderedLabels((0.1, 0.5, 0.9)), OrderedLabels((0.1, 0.5, 0.9), most=300)
    values = np.random.default_rng(5).permutation(1001)
    for part in np.array_split(values, 7):
        labels.add(part)
        some.add(part)
    always = labels.baseline()
    always.add(np.array([500]))
    # 100, 500 and 900 are always answered.
    assert always.metrics()["baseline_pinball"] == pytest.approx((0.1 * 400 + 0.1 * 400) / 3)
    assert (labels.mean, labels.deviation) == pytest.approx((500.0, np.std(values)))
    thinned = some.baseline()
    thinned.add(np.array([500]))
    assert thinned.metrics()["baseline_pinball"] == pytest.approx((0.1 * 400 + 0.1 * 400) / 3, rel=0.2)
    metrics = {"pinball": 30.0, "coverage": 0.8, **always.metrics()}
    task = TASKS["quantile"]
    assert task.baseline(metrics, PINBALL).no_better
    assert "worse" not in task.why_useless({**metrics, "pinball": 5.0}, task.measures["coverage"], balanced=False)


def test_levels_are_those_of_the_document_or_three_and_old_specs_say_nothing_of_them() -> None:
    task, plain = TASKS["quantile"], load_pipeline(document())
    assert task.places(plain.train, ()) == ("0.1", "0.5", "0.9")
    assert b"quantiles" not in plain.canonical_json()
    said = load_pipeline(document(", task: quantile, quantiles: [0.05, 0.5, 0.99]"))
    assert task.places(said.train, ()) == ("0.05", "0.5", "0.99")
    assert parse_canonical(said.canonical_json()).train.quantiles == (0.05, 0.5, 0.99)
    assert task.question(said.train) != task.question(plain.train)
    wide = load_pipeline(document(", task: quantile, predictionType: float64", "int64", gates="errorRise: 0.1"))
    assert wide.task == "quantile"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"train": ", task: quantile, quantiles: [0.5, 0.1]"},
            "quantiles: expected rising levels with 0.5 among",
        ),
        (
            {"train": ", task: quantile, quantiles: [0.1, 0.9]"},
            "quantiles: expected rising levels with 0.5 among",
        ),
        ({"train": ", task: quantile, quantiles: [0.5, 1]"}, "quantiles.1.: expected less than 1"),
        ({"train": ", task: quantile, quantiles: [0.5]"}, "train.quantiles: .*at least 2"),
        (
            {"train": ", quantiles: [0.1, 0.5]"},
            "expected none for a regression, as only a quantile heeds it",
        ),
        (
            {"label": "string"},
            "train.task: expected .* or generation for a label of type string, got quantile",
        ),
        ({"network": "trees"}, "expected a network that learns a quantile, which imported and trees do not, got trees"),
        (
            {"train": ", task: quantile, compareWith: trees"},
            "compareWith: expected none for a quantile, which trees do not learn",
        ),
        ({"feature": "quantiles"}, "'quantiles' belongs to the answers of a quantile"),
        ({"gates": "accuracyDrop: 0.1"}, "expected gates of a quantile .errorRise, sizeRatio, latencyRatio, benefit."),
        ({"gates": "measure: rmse"}, "expected one of pinball, coverage, median_mae, coverage_error"),
        ({"train": ", task: quantile, threshold: {maximise: f1}"}, "threshold: expected none for a quantile"),
    ],
)
def test_what_cannot_be_is_told(changes: dict[str, str], told: str) -> None:
    with pytest.raises(SpecInvalid, match=told):
        load_pipeline(document(**changes))


def test_a_feature_may_be_called_quantiles_where_another_task_is_learned() -> None:
    assert load_pipeline(document("", feature="quantiles")).task == "regression"
