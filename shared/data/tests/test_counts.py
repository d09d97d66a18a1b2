"""Counts: what their measures are by hand and beside scikit-learn, and what a document may say of them."""

from __future__ import annotations

import numpy as np
import pytest
from headrace_data.errors import DatasetUnusable
from headrace_data.spec import SpecInvalid, load_pipeline
from headrace_data.tasks import TASKS
from headrace_data.tasks.count import DEVIANCE, EXPECTED, Counted, CountScores
from sklearn.metrics import d2_tweedie_score, mean_absolute_error, mean_poisson_deviance

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: orders}}
stream:
  topic: orders
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: {feature}, type: float32, role: feature}}
    - {{name: y, type: {label}, role: label}}
train: {{network: {{kind: {network}}}, task: count{train}}}
compress: {{gates: {{{gates}}}}}
"""


def document(train: str = "", label: str = "int32", **changes: str) -> str:
    return DOCUMENT.format(**{"network": "mlp", "feature": "x", "gates": "", "label": label, "train": train, **changes})


def measured(expected: list[float], counts: list[float]) -> dict[str, float]:
    scores = CountScores()
    scores.add({EXPECTED: np.array(expected)}, np.array(counts))
    return scores.quality()


def test_measures_by_hand() -> None:
    found = measured([1.0, 1.0, 2.0], [0, 2, 2])
    # Of none where 1 was expected twice the 1; of 2 twice 2 log 2 - 1; of 2 where 2 were expected nothing.
    deviance = (2 * 1 + 2 * (2 * np.log(2) - 1)) / 3
    assert found["deviance"] == pytest.approx(deviance)
    assert found["count_mae"] == pytest.approx(2 / 3)
    assert found["total_error"] == 0.0


def test_measures_are_those_of_scikit_learn_however_rows_come() -> None:
    random = np.random.default_rng(3)
    expected = random.gamma(0.8, 4.0, 500) + 1e-3
    counts = random.poisson(expected)
    whole, parts = CountScores(), CountScores()
    whole.add({EXPECTED: expected}, counts)
    for start in range(0, 500, 77):
        parts.add({EXPECTED: expected[start : start + 77]}, counts[start : start + 77])
    found = whole.quality()
    assert found["deviance"] == pytest.approx(mean_poisson_deviance(counts, expected), rel=1e-9)
    assert found["deviance_explained"] == pytest.approx(d2_tweedie_score(counts, expected, power=1), rel=1e-9)
    assert found["count_mae"] == pytest.approx(mean_absolute_error(counts, expected), rel=1e-9)
    assert found["total_error"] == pytest.approx(abs(expected.sum() / counts.sum() - 1), rel=1e-9)
    assert parts.quality() == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize(
    ("expected", "counts", "explained"),
    [
        ([3.0, 3.0], [3, 3], 1.0),
        ([2.0, 3.0], [3, 3], 0.0),
        ([1e9, 1e9], [10**9, 10**9], 1.0),
        ([0.0, 0.0], [0, 0], 1.0),
    ],
)
def test_of_equal_counts_all_is_explained_or_nothing(
    expected: list[float], counts: list[float], explained: float
) -> None:
    assert measured(expected, counts)["deviance_explained"] == explained


def test_every_measure_is_a_number_where_nothing_was_expected_or_counted() -> None:
    assert all(np.isfinite(list(measured([0.0, 1e-320], [5, 0]).values())))
    assert "total_error" not in measured([0.5, 0.1], [0, 0])


def test_the_baseline_is_the_mean_of_the_training_split() -> None:
    labels = Counted()
    labels.add(np.array([0, 1]))
    labels.add(np.array([5]))
    always = labels.baseline()
    always.add(np.array([2, 2]))
    task = TASKS["count"]
    assert always.metrics()["baseline_deviance"] == pytest.approx(0.0, abs=1e-12)
    assert "worse" not in task.why_useless({"deviance": 0.0, **always.metrics()}, DEVIANCE, balanced=False)
    told = task.why_useless({"deviance": 0.5, "total_error": 0.0, **always.metrics()}, DEVIANCE, balanced=False)
    assert told == "deviance 0.5000, and 0.0000 by always answering the mean"


@pytest.mark.parametrize("wrong", [-1.0, np.inf, np.nan])
def test_what_is_no_count_is_told(wrong: float) -> None:
    with pytest.raises(DatasetUnusable, match=r"expected counts of 0 and more, got .*give the label the range"):
        Counted().add(np.array([1.0, wrong, 2.0]))
    with pytest.raises(DatasetUnusable, match="expected counts of 0 and more"):
        measured([1.0, 1.0], [wrong, 2.0])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"label": "string"},
            "train.task: expected .* or generation for a label of type string, got count",
        ),
        ({"label": "bool"}, "train.task: expected classification or .* for a label of type bool, got count"),
        ({"label": "int32, shape: [3]"}, r"for a label of type int32 and shape \[3\], got count"),
        ({"feature": "expected_count"}, "'expected_count' belongs to the answers of a count"),
        ({"gates": "accuracyDrop: 0.1"}, "expected gates of a count .errorRise, sizeRatio, latencyRatio, benefit."),
        ({"gates": "measure: rmse"}, "expected one of deviance, deviance_explained, count_mae, total_error"),
        ({"gates": "measure: total_error"}, "expected one of deviance, deviance_explained, count_mae, got total_error"),
        ({"gates": "limits: {deviance_explained: 1.5}"}, "expected a finite number of at most 1, got 1.5"),
        ({"label": "int32, range: [-3, 9]"}, r"schema\[2\].range\[0\]: expected at least 0 for a count, got -3"),
    ],
)
def test_what_cannot_be_is_told(changes: dict[str, str], told: str) -> None:
    with pytest.raises(SpecInvalid, match=told):
        load_pipeline(document(**changes))


def test_trees_learn_counts_and_are_compared_with() -> None:
    assert load_pipeline(document(network="trees")).task == "count"
    assert load_pipeline(document(", compareWith: trees", "float64, range: [0, 9]")).task == "count"
