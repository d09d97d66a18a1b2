"""Measures of answers, beside scikit-learn's and worked by hand; batch by batch as all at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from headrace_data.tasks import TASKS, task_of, task_of_outputs
from headrace_data.tasks.areas import Areas, areas
from headrace_data.tasks.classification import ClassScores, Predictions, metrics_of
from headrace_data.tasks.deciding import MAXIMISED, best_threshold, decision_weights, least_cost
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn


def answers(seed: int, rows: int, classes: list[Any], share: float = 0.5) -> tuple[dict[str, Any], np.ndarray]:
    """Return answers that are right more often than not, with ties among the scores, and the truth."""
    generator = np.random.default_rng(seed)
    weights = np.array([share, *([(1 - share) / (len(classes) - 1)] * (len(classes) - 1))])
    truth = generator.choice(len(classes), rows, p=weights)
    logits = np.round(generator.normal(size=(rows, len(classes))) + 1.5 * np.eye(len(classes))[truth], 1)
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    values = np.array(classes, dtype=object if isinstance(classes[0], str) else np.int64)
    given_ = {"probabilities": probabilities, "label": values[probabilities.argmax(axis=1)]}
    return given_, values[truth]


def measured(
    given_: dict[str, Any], truth: np.ndarray, classes: list[Any], positive=None, batches: int = 1
) -> dict[str, float]:
    scores = ClassScores(classes, positive)
    for places in np.array_split(np.arange(len(truth)), batches):
        scores.add({name: values[places] for name, values in given_.items()}, truth[places])
    return scores.metrics()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.5, 0.9, 0.98]), named=st.booleans())
def test_two_classes_are_measured_as_scikit_learn_does(seed: int, share: float, named: bool) -> None:
    classes = ["ok", "fraud"] if named else [0, 1]
    given_, truth = answers(seed, 400, classes, share)
    found = measured(given_, truth, classes, "fraud" if named else None)
    of_class = truth == classes[1]
    if not of_class.any():
        assert not {"recall", "f1", "roc_auc", "pr_auc"} & found.keys()
        return
    score, said = given_["probabilities"][:, 1], given_["label"] == classes[1]
    assert found["precision"] == pytest.approx(sklearn.precision_score(of_class, said, zero_division=0))
    assert found["recall"] == pytest.approx(sklearn.recall_score(of_class, said))
    assert found["f1"] == pytest.approx(sklearn.f1_score(of_class, said))
    assert found["roc_auc"] == pytest.approx(sklearn.roc_auc_score(of_class, score))
    assert found["pr_auc"] == pytest.approx(sklearn.average_precision_score(of_class, score))
    assert found[f"precision/{classes[1]}"] == found["precision"]
    assert found[f"f1/{classes[1]}"] == found["f1"]
    assert found[f"accuracy/{classes[1]}"] == found["recall"]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), classes=st.sampled_from([["a", "b", "c"], [3, 5, 8, 13]]))
def test_of_more_classes_the_mean_is_that_of_scikit_learn(seed: int, classes: list[Any]) -> None:
    given_, truth = answers(seed, 300, classes)
    found, said, score = measured(given_, truth, classes), given_["label"], given_["probabilities"]
    for name in ("precision", "recall", "f1"):
        of = getattr(sklearn, f"{name}_score")
        assert found[name] == pytest.approx(of(truth.tolist(), said.tolist(), average="macro", zero_division=0))
    each = [sklearn.roc_auc_score(truth == value, score[:, at]) for at, value in enumerate(classes)]
    assert found["roc_auc"] == pytest.approx(np.mean(each))
    each = [sklearn.average_precision_score(truth == value, score[:, at]) for at, value in enumerate(classes)]
    assert found["pr_auc"] == pytest.approx(np.mean(each))


def test_one_class_of_many_may_be_the_one_that_is_looked_for() -> None:
    classes = ["a", "b", "c"]
    given_, truth = answers(3, 300, classes)
    found = measured(given_, truth, classes, "b")
    assert found["recall"] == pytest.approx(sklearn.recall_score(truth == "b", given_["label"] == "b"))
    assert found["roc_auc"] == pytest.approx(sklearn.roc_auc_score(truth == "b", given_["probabilities"][:, 1]))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), batches=st.integers(2, 9), classes=st.sampled_from([[0, 1], ["a", "b", "c"]]))
def test_batches_measure_what_one_measures(seed: int, batches: int, classes: list[Any]) -> None:
    given_, truth = answers(seed, 100, classes)
    once, parts = measured(given_, truth, classes), measured(given_, truth, classes, batches=batches)
    assert parts == pytest.approx(once)


def test_values_that_are_no_class_of_the_graph_are_wrong_answers() -> None:
    given_ = {"probabilities": np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], np.float32), "label": np.array([3, 5, 5])}
    found = measured(given_, np.array([3, 5, 99]), [3, 5])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["precision"] == 0.5
    assert found["recall"] == pytest.approx(2 / 3)
    assert "accuracy/99" not in found


@pytest.mark.parametrize("positive", ["fraud", None])
def test_a_class_that_the_graph_does_not_know_is_one_that_it_never_finds(positive: str | None) -> None:
    truth = np.array(["a", "b", "fraud", "fraud"], object)
    of_before = {"probabilities": np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]], np.float32)}
    of_before["label"] = np.array(["a", "b", "b", "a"], object)
    before = TASKS["classification"].scores(["a", "b"], positive)
    before.add(of_before, truth)
    of_now = {
        "probabilities": np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.2, 0.3]], np.float32)
    }
    of_now["label"] = np.array(["a", "b", "fraud", "a"], object)
    now = TASKS["classification"].scores(["a", "b", "fraud"], positive)
    now.add(of_now, truth)
    own, other = before.quality(), now.quality()
    assert all(own[name] < other[name] for name in ("precision", "recall", "f1", "roc_auc", "pr_auc"))
    if positive:
        found = {name: own[name] for name in ("precision", "recall", "f1", "roc_auc", "pr_auc")}
        assert found == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "roc_auc": 0.5, "pr_auc": 0.5}


def test_a_measure_that_a_constant_answer_wins_is_no_mark_for_a_first_version() -> None:
    task = TASKS["classification"]
    metrics = {
        "accuracy": 0.95,
        "calibration_error": 0.02,
        "baseline_accuracy/a": 0.7,
        "baseline_calibration_error": 0.0,
    }
    assert task.why_useless(metrics, task.measures["calibration_error"], balanced=False) == ""
    worse = task.why_useless(metrics | {"accuracy": 0.6}, task.measures["calibration_error"], balanced=False)
    assert worse.startswith("accuracy 0.6000")


@pytest.mark.parametrize("truth", [[3, 3, 3], [5, 5, 5]])
def test_rows_of_one_class_alone_say_nothing_of_an_order(truth: list[int]) -> None:
    labels = np.array([3, 5, 5])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], np.float32)
    found = metrics_of(Predictions(probabilities, labels, [3, 5]), np.array(truth))
    assert not {"roc_auc", "pr_auc"} & found.keys()
    assert ("recall" in found) == (truth[0] == 5)
    assert all(np.isfinite(value) for value in found.values())


@pytest.mark.parametrize(
    ("scores", "of_class", "wanted"),
    [
        ([0.9, 0.8, 0.7], [1, 1, 0], (1.0, 1.0)),
        ([0.1, 0.2, 0.7], [1, 1, 0], (0.0, (1 / 2) * (1 / 2) + (1 / 2) * (2 / 3))),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], (0.5, 0.25)),
        ([0.5], [1], None),
        ([0.5, 0.4], [0, 0], None),
    ],
)
def test_areas_by_hand(scores, of_class, wanted) -> None:
    found = areas(np.array(scores, np.float32), np.array(of_class, bool))
    assert found == (wanted if wanted is None else pytest.approx(wanted))


def test_of_very_many_rows_a_fixed_part_is_ranked() -> None:
    generator = np.random.default_rng(5)
    places = (generator.random(20_000) < 0.3).astype(int)
    scores = (generator.normal(size=20_000) + places).astype(np.float32)[:, np.newaxis]
    exact, sampled, split = Areas(), Areas(4_000), Areas(4_000)
    for ranking, size in ((exact, 20_000), (sampled, 20_000), (split, 777)):
        for start in range(0, 20_000, size):
            ranking.add(scores[start : start + size], places[start : start + size])
    assert sampled.areas(0, 1) == split.areas(0, 1)
    assert sampled.areas(0, 1) == pytest.approx(exact.areas(0, 1), abs=0.03)
    assert len(split._together()[0]) == 2_500


def test_the_task_of_an_old_event_is_that_of_its_measurements() -> None:
    assert task_of("", {"accuracy": 0.5}) is TASKS["classification"]
    assert task_of("", {"rmse": 3.0, "mae": 2.0}) is TASKS["regression"]
    assert task_of("", {}) is TASKS["classification"]
    assert task_of("regression", {}) is TASKS["regression"]
    assert task_of("of-a-newer-release", {"rmse": 3.0}) is TASKS["regression"]


def test_a_graph_is_known_by_what_it_answers() -> None:
    assert task_of_outputs(["probabilities", "label", "logits"]) is TASKS["classification"]
    assert task_of_outputs(["prediction"]) is TASKS["regression"]
    assert task_of_outputs(["probabilities"]) is None


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), by=st.sampled_from([*MAXIMISED, "costs"]))
def test_no_threshold_is_better_than_the_one_that_is_chosen(seed: int, by: str) -> None:
    generator = np.random.default_rng(seed)
    of_class = generator.random(60) < 0.2
    of_class[:2] = True, False
    scores = np.round(generator.beta(2, 4, 60) + 0.3 * of_class, 2).clip(0, 1).astype(np.float32)

    def worth(threshold: float) -> float:
        said = scores > threshold
        if by == "costs":
            return -float(20 * np.sum(of_class & ~said) + np.sum(said & ~of_class))
        return float(getattr(sklearn, f"{by}_score")(of_class, said))

    probabilities = np.stack([1 - scores, scores], axis=1)
    chosen = best_threshold(probabilities, 1, of_class, least_cost(20, 1) if by == "costs" else MAXIMISED[by])
    assert worth(chosen) == pytest.approx(max(worth(at) for at in (-1.0, *np.unique(scores))))
    weights = decision_weights(chosen, 1)
    assert ((probabilities * weights).argmax(axis=1) == (scores > chosen)).all()


ENDS = [0.0, 1e-30, 5.9604645e-08, 0.49999997, 0.5, 0.50000006, 0.99999988, 0.99999994, 1.0]


@settings(deadline=None, max_examples=80)
@given(
    places=st.lists(st.tuples(st.sampled_from(ENDS), st.booleans()), min_size=2, max_size=12),
    positive=st.sampled_from([0, 1]),
    by=st.sampled_from([*MAXIMISED, "never", "always"]),
)
def test_a_threshold_between_neighbours_is_judged_as_the_graph_decides(places, positive, by) -> None:
    """Of sure probabilities the next float32 is the only number between: what is chosen must be what is answered."""
    own = np.array([place for place, _ in places], np.float32)
    of_class = np.array([inside for _, inside in places])
    of_class[:2] = True, False
    probabilities = np.empty((len(own), 2), np.float32)
    probabilities[:, positive], probabilities[:, 1 - positive] = own, np.float32(1) - own
    costs = {"never": least_cost(1e-9, 1.0), "always": least_cost(1.0, 1e-9)}
    worth = costs[by] if by in costs else MAXIMISED[by]

    def served(threshold: float) -> float:
        said = (probabilities * decision_weights(threshold, positive)).argmax(axis=1) == positive
        counts = (np.array([np.sum(said & of_class)]), np.array([np.sum(said & ~of_class)]))
        return float(worth(*counts, int(of_class.sum()), int((~of_class).sum()))[0])

    chosen = best_threshold(probabilities, positive, of_class, worth)
    near = [np.nextafter(np.float32(each), np.float32(end)) for each in ENDS for end in (0, 1)]
    assert served(chosen) == max(served(float(at)) for at in [*ENDS, *near, 0.25, 0.75])


def test_a_row_that_is_certain_can_be_told_from_a_row_that_nearly_is() -> None:
    probabilities = np.array([[1e-12, 1.0], [1e-9, 1.0], [0.6, 0.4]], np.float32)
    chosen = best_threshold(probabilities, 1, np.array([True, False, False]), MAXIMISED["accuracy"])
    assert chosen == 1.0, "no float32 below one parts the first two: none is as right as both, and the highest counts"
    assert (probabilities * decision_weights(chosen, 1)).argmax(axis=1).tolist() == [0, 0, 0]
    sure = np.array([[0.0, 1.0], [5.9604645e-08, 0.99999994]], np.float32)
    chosen = best_threshold(sure, 1, np.array([True, False]), MAXIMISED["accuracy"])
    assert (sure * decision_weights(chosen, 1)).argmax(axis=1).tolist() == [1, 0]


def test_calibration_is_that_of_the_probabilities_whatever_is_answered() -> None:
    given_, truth = answers(2, 200, [0, 1], 0.9)
    always = {**given_, "label": np.ones(200, dtype=np.int64)}
    plain, moved = measured(given_, truth, [0, 1]), measured(always, truth, [0, 1])
    assert moved["accuracy"] < plain["accuracy"]
    assert moved["calibration_error"] == plain["calibration_error"]
