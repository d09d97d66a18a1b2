"""Labels with places: what a document may say of them, and what their measures are beside scikit-learn."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from headrace_data.records import RecordChecker
from headrace_data.sketch_files import from_bytes, to_bytes
from headrace_data.sketches import Sketch
from headrace_data.spec import SpecInvalid, load_pipeline, parse_canonical
from headrace_data.split import SPLITS
from headrace_data.tasks import TASKS, task_of_outputs
from headrace_data.tasks.multilabel import LABELS, PLACE_PROBABILITIES, PlaceCounts, PlaceScores
from headrace_data.tasks.quantile import QUANTILES, OrderedLabels, QuantileScores
from headrace_data.tasks.regression import PREDICTION, Moments, RegressionScores
from sklearn import metrics

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: shaped}}
stream:
  topic: shaped
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: {feature}, type: {type_of_feature}, role: feature{of_feature}}}
    - {{name: y, type: {label}, role: label}}
prepare: {{transform: {{{prepare}}}}}
train: {{network: {{kind: {network}}}{train}}}
compress: {{gates: {{{gates}}}}}
"""
TAGS = "bool, shape: [2]"


def document(label: str = TAGS, **changes: str) -> str:
    defaults = {
        "type_of_feature": "float32",
        "network": "mlp",
        "feature": "x",
        "of_feature": "",
        "gates": "",
        "train": "",
        "prepare": "",
    }
    return DOCUMENT.format(**{**defaults, "label": label, **changes})


def answered(count: int = 400) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Four tags, the last of which no row has."""
    generator = np.random.default_rng(3)
    truth = (generator.random((count, 4)) < [0.5, 0.1, 0.02, 0.0]).astype(np.uint8)
    probabilities = np.clip(0.4 * truth + generator.random((count, 4)) * 0.6, 0, 1).astype(np.float32)
    labels = (probabilities > 0.5).astype(np.uint8)
    labels[:, 3] = 0
    return truth, labels, {PLACE_PROBABILITIES: probabilities, LABELS: labels}


def test_measures_of_tags_are_those_of_scikit_learn_however_rows_come() -> None:
    truth, labels, answers = answered()
    whole, parts = PlaceScores("abcd"), PlaceScores("abcd")
    whole.add(answers, truth)
    for start in range(0, len(truth), 77):
        some = slice(start, start + 77)
        parts.add({name: values[some] for name, values in answers.items()}, truth[some])
    found, there = whole.metrics(), slice(0, 3)
    assert parts.metrics() == pytest.approx(found, rel=1e-6)
    assert found["micro_f1"] == pytest.approx(metrics.f1_score(truth, labels, average="micro"))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(truth[:, there], labels[:, there], average="macro"))
    areas = [metrics.average_precision_score(truth[:, at], answers[PLACE_PROBABILITIES][:, at]) for at in range(3)]
    assert found["mean_pr_auc"] == pytest.approx(np.mean(areas))
    assert found["pr_auc/c"] == pytest.approx(areas[2])
    assert found["exact_match"] == pytest.approx(metrics.accuracy_score(truth, labels))
    assert found["hamming_loss"] == pytest.approx(metrics.hamming_loss(truth, labels))
    of = metrics.precision_recall_fscore_support(truth, labels, zero_division=0)
    assert [found[f"{name}/a"] for name in ("precision", "recall", "f1")] == pytest.approx([each[0] for each in of[:3]])
    assert "f1/d" not in found
    losses = [
        metrics.log_loss(truth[:, at], answers[PLACE_PROBABILITIES][:, at].astype(float), labels=[0, 1])
        for at in range(4)
    ]
    assert found["mean_log_loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_baseline_of_tags_is_the_commoner_answer_to_each() -> None:
    counts = PlaceCounts("ab")
    counts.add(np.array([[1, 0], [1, 0], [1, 1], [0, 0]]))
    always = counts.baseline()
    always.add(np.array([[1, 0], [0, 1]]))
    told = always.metrics()
    assert (told["baseline_micro_f1"], told["baseline_mean_pr_auc"]) == (0.5, 0.5)
    assert told["baseline_exact_match"] == 0.5
    task = TASKS["multilabel"]
    assert task.why_useless({"mean_pr_auc": 0.4, **told}, task.headline, balanced=True).endswith(task.always)


def test_rows_without_any_tag_leave_the_headline_out() -> None:
    scores = PlaceScores("ab")
    scores.add({PLACE_PROBABILITIES: np.full((3, 2), 0.1, np.float32), LABELS: np.zeros((3, 2))}, np.zeros((3, 2)))
    found = scores.metrics()
    assert "mean_pr_auc" not in found
    assert (found["micro_f1"], found["exact_match"]) == (0.0, 1.0)


def test_steps_are_measured_by_themselves_and_together() -> None:
    generator = np.random.default_rng(5)
    truth = generator.normal([1e6, 0.0], [10.0, 1.0], (300, 2))
    given = truth + generator.normal(size=(300, 2))
    scores, moments = RegressionScores(("+1h", "+2h")), Moments(("+1h", "+2h"))
    for start in range(0, 300, 70):
        scores.add({PREDICTION: given[start : start + 70]}, truth[start : start + 70])
        moments.add(truth[start : start + 70])
    found = scores.metrics()
    assert found["rmse"] == pytest.approx(metrics.mean_squared_error(truth, given) ** 0.5)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, given))
    assert found["r2"] == pytest.approx(metrics.r2_score(truth, given, multioutput="variance_weighted"))
    assert found["rmse/+2h"] == pytest.approx(metrics.mean_squared_error(truth[:, 1], given[:, 1]) ** 0.5)
    assert moments.mean == pytest.approx(truth.mean(axis=0))
    assert moments.deviation == pytest.approx(truth.std(axis=0))
    always = moments.baseline()
    always.add(truth)
    assert always.metrics()["baseline_r2"] == pytest.approx(0.0, abs=1e-9)


def test_the_baseline_of_quantiles_is_each_steps_own() -> None:
    levels, labels = (0.1, 0.5, 0.9), np.stack([np.arange(1001), 5000 + np.arange(1001)], axis=1)
    known = OrderedLabels(levels, steps=("1", "2"))
    for part in np.array_split(np.random.default_rng(1).permutation(labels), 5):
        known.add(part)
    always, scores = known.baseline(), QuantileScores(levels, ("1", "2"))
    always.add(np.array([[500, 5500]]))
    assert always.metrics()["baseline_pinball"] == pytest.approx((0.1 * 400 + 0.1 * 400) / 3)
    scores.add({QUANTILES: np.array([[[1.0, 2.0, 4.0], [0.0, 1.0, 2.0]]])}, np.array([[3, 5]]))
    found = scores.metrics()
    assert found["pinball/1"] == pytest.approx((0.1 * 2 + 0.5 * 1 + 0.1 * 1) / 3)
    assert (found["coverage"], found["coverage/1"], found["coverage/2"]) == (0.5, 1.0, 0.0)
    assert found["pinball"] == pytest.approx((found["pinball/1"] + found["pinball/2"]) / 2)


def test_a_label_with_places_has_a_task_of_its_own_and_names() -> None:
    tags = load_pipeline(document("bool, shape: [2], places: [sport, +1h]"))
    assert (tags.task, tags.stream.label.place_names) == ("multilabel", ("sport", "+1h"))
    assert parse_canonical(tags.canonical_json()) == tags
    assert task_of_outputs([PLACE_PROBABILITIES, LABELS]) is TASKS["multilabel"]
    plain = load_pipeline(document("int32, shape: [3]"))
    assert (plain.task, plain.stream.label.place_names) == ("regression", ("1", "2", "3"))
    assert b"places" not in plain.canonical_json()
    assert tags.schema_digest != load_pipeline(document()).schema_digest
    assert load_pipeline(document("float32, shape: [3]", train=", task: quantile")).task == "quantile"
    assert load_pipeline(document(train=", classWeights: balanced", gates="agreement: 0.9")).task == "multilabel"


@pytest.mark.parametrize("label", ["bool", "int32", "bool, shape: [2]", "float64, shape: [2]"])
def test_sketches_of_labels_survive_their_bytes_and_those_of_before_are_read(label: str) -> None:
    pipeline = load_pipeline(document(label))
    one = {"bool": "true", "int32": "7", "bool, shape: [2]": "[true, false]", "float64, shape: [2]": "[1.5, -2]"}[label]
    records = [f'{{"id": "r{at}", "x": {at}, "y": {one}}}'.encode() for at in range(9)]
    batch = RecordChecker(pipeline.stream).check(records, [0] * 9, range(9)).batch
    sketch = Sketch(pipeline)
    sketch.add(batch, 0, (np.arange(9) % 3).astype(np.int8))
    data = to_bytes(sketch)
    again = from_bytes(data, pipeline)
    assert to_bytes(again) == data
    with np.load(io.BytesIO(data)) as file:
        plain = json.loads(file["plain"].tobytes())
        names = set(file.files) - {"spread/ranks", "spread/sample"}
    sides = {f"{side}/x/{each}" for side in SPLITS for each in ("means", "squares", "low", "high")}
    if "shape" in label:
        assert again.labels.counts == {}
        assert names == {"plain", *sides, *(f"places/{each}" for each in ("means", "squares", "low", "high"))}
        assert plain["places"] == {"count": 9}
    else:
        assert names == {"plain", *sides}, "as it was before labels had shapes"
        assert set(plain) == {"labels", "sides", "spread"}
        assert again.labels.counts == {1 if label == "bool" else 7: 9}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"label": "bool", "train": ", task: multilabel"},
            "expected classification or regression or ranking for a label of",
        ),
        ({"train": ", task: classification"}, "expected regression or multilabel for a label of type bool and shape"),
        ({"label": "int32, shape: [2]", "train": ", task: multilabel"}, "expected regression or quantile for a label"),
        ({"label": "bool, shape: [2, 2]"}, "expected one dimension of at most 1000 for a label, got shape .2, 2."),
        ({"label": "string, shape: [2]"}, "expected a single value for a string label"),
        ({"label": "bool, shape: [2], places: [a]"}, "expected 2 names, one for each place of the label, got 1"),
        ({"label": "bool, shape: [2], places: [a, a]"}, "expected each name once, got 'a' again"),
        ({"label": "bool, shape: [2], places: [a, ' ']"}, "places.1.: expected a printable text of at most 64"),
        ({"label": "bool, places: [a]"}, "expected names of places of a label with a shape only"),
        ({"of_feature": ", shape: [1], places: [a]"}, "expected names of places of a label with a shape only"),
        ({"network": "trees"}, "expected a network that learns a multilabel, which imported and trees do not"),
        ({"label": "float32, shape: [2]", "network": "trees"}, "learns a regression with several numbers, which imp"),
        ({"label": "float32, shape: [2]", "train": ", compareWith: trees"}, "a regression with several numbers, which"),
        ({"train": ", compareWith: trees"}, "expected none for a multilabel, which trees do not learn"),
        ({"train": ", threshold: {maximise: f1}"}, "threshold: expected none for a multilabel, as only a classif"),
        ({"train": ", positive: true"}, "positive: expected none for a multilabel, as only a classification heeds"),
        ({"train": ", predictionType: float64"}, "predictionType: expected none for a multilabel"),
        (
            {"train": ", tune: {space: {augment.oversample: [0, 0.5]}}"},
            "augment.oversample.1.: expected none for a multilabel, which has no classes",
        ),
        ({"gates": "accuracyDrop: 0.1"}, "expected gates of a multilabel .agreement, relativeLogitError, sizeRatio"),
        ({"gates": "measure: f1"}, "expected one of mean_pr_auc, micro_f1"),
        (
            {"type_of_feature": "string", "prepare": "x: {encode: target}"},
            "expected another encoding beside a label of sh",
        ),
        ({"feature": "labels"}, "'labels' belongs to the answers of a multilabel"),
    ],
)
def test_what_cannot_be_is_told(changes: dict[str, str], told: str) -> None:
    with pytest.raises(SpecInvalid, match=told):
        load_pipeline(document(**changes))


def test_names_that_are_no_texts_are_told_one_by_one_and_nothing_of_how_many_there_are() -> None:
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(document("bool, shape: [2], places: [1, 2]"))
    assert [problem.message for problem in refused.value.problems] == [
        "expected a valid string, got 1",
        "expected a valid string, got 2",
    ]
