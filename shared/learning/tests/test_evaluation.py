import math
from collections.abc import Callable

import numpy as np
import pytest
from headrace_data.tasks.classification import Predictions, accuracy, agreement, calibration_error, log_loss
from headrace_engines.model import run_in_batches
from headrace_learning.errors import NotAServedGraph
from headrace_learning.evaluation import (
    evaluate,
    logits_of,
    open_graph,
    predict,
    relative_logit_error,
)
from headrace_learning.graphs import class_values, with_logits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

LinearGraph = Callable[..., bytes]

IDENTITY = np.eye(3, dtype=np.float32) * 4
CLASSES = np.array([3, 5, 8], dtype=np.int64)
ROWS = {"x": np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]}


def test_a_graph_is_measured_on_labelled_rows(linear_graph: LinearGraph) -> None:
    metrics = evaluate(linear_graph(IDENTITY, CLASSES), ROWS, np.array([3, 5, 8, 8]))

    right = math.exp(4) / (math.exp(4) + 2)
    wrong = (1 - right) / 2
    assert metrics == pytest.approx(
        {
            "accuracy": 0.75,
            "log_loss": -(3 * math.log(right) + math.log(wrong)) / 4,
            "calibration_error": abs(right - 0.75),
            "accuracy/3": 1.0,
            "accuracy/5": 1.0,
            "accuracy/8": 0.5,
            # Means over the classes: 3 is answered twice, and once wrongly.
            "precision": (0.5 + 1 + 1) / 3,
            "recall": (1 + 1 + 0.5) / 3,
            "f1": (2 / 3 + 1 + 2 / 3) / 3,
            "precision/3": 0.5,
            "precision/5": 1.0,
            "precision/8": 1.0,
            "f1/3": 2 / 3,
            "f1/5": 1.0,
            "f1/8": 2 / 3,
            "roc_auc": (5 / 6 + 1 + 0.75) / 3,
            "pr_auc": (0.5 + 1 + 0.75) / 3,
        },
        abs=1e-6,
    )


def test_class_names_come_from_the_graph(linear_graph: LinearGraph) -> None:
    graph = linear_graph(IDENTITY, np.array(["ant", "bee", "käfer"], dtype=object))

    assert class_values(graph) == ["ant", "bee", "käfer"]
    assert predict(graph, ROWS).labels.tolist() == ["ant", "bee", "käfer", "ant"]
    assert evaluate(graph, ROWS, np.array(["ant", "bee", "käfer", "ant"], dtype=object))["accuracy"] == 1.0


def test_a_class_that_the_graph_does_not_know_costs_it(linear_graph: LinearGraph) -> None:
    metrics = evaluate(linear_graph(IDENTITY, CLASSES), ROWS, np.array([3, 5, 8, 99]))

    assert metrics["accuracy"] == 0.75
    assert metrics["log_loss"] > -math.log(1e-7) / 4


def test_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    # Two bins: confidence 0.9 with accuracy 0.5, confidence 0.6 with accuracy 1, two rows each.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    predictions = Predictions(probabilities, np.array([0, 0, 0, 0]), [0, 1])

    assert calibration_error(predictions, np.array([0, 1, 0, 0])) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 50), st.just(4)), elements=st.floats(0.01, 1.0)),
    st.integers(0, 2**32 - 1),
)
def test_metrics_stay_in_their_ranges(raw: np.ndarray, seed: int) -> None:
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    truth = np.random.default_rng(seed).integers(0, 4, len(raw))
    predictions = Predictions(probabilities, probabilities.argmax(axis=1), [0, 1, 2, 3])

    assert 0 <= accuracy(predictions.labels, truth) <= 1
    assert 0 <= calibration_error(predictions, truth) <= 1
    assert log_loss(predictions, truth) >= 0


@given(st.lists(st.integers(0, 3), min_size=1), st.integers(1, 30))
def test_certain_and_right_predictions_are_perfect(labels: list[int], bins: int) -> None:
    truth = np.array(labels)
    predictions = Predictions(np.eye(4)[truth], truth, [0, 1, 2, 3])

    assert log_loss(predictions, truth) == 0
    assert calibration_error(predictions, truth, bins) == 0


def test_nothing_is_said_about_no_rows_or_rows_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="at least one"):
        accuracy(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="each of 2 rows, got 1"):
        accuracy(np.array([1]), np.array([1, 2]))


def test_relative_logit_error_compares_before_the_softmax(linear_graph: LinearGraph) -> None:
    reference, scaled = linear_graph(IDENTITY, CLASSES), linear_graph(IDENTITY * 1.1, CLASSES)

    assert logits_of(reference, ROWS).tolist() == (ROWS["x"] * 4).tolist()
    assert relative_logit_error(reference, scaled, ROWS) == pytest.approx(0.1, abs=1e-6)
    assert relative_logit_error(reference, reference, ROWS) == 0
    assert relative_logit_error(linear_graph(IDENTITY * 0, CLASSES), reference, ROWS) == math.inf
    assert agreement(predict(reference, ROWS).labels, predict(scaled, ROWS).labels) == 1


def test_the_logits_are_an_output_only_for_measuring(linear_graph: LinearGraph) -> None:
    graph = linear_graph(IDENTITY, CLASSES)

    assert [each.name for each in open_graph(graph).outputs] == ["probabilities", "label"]
    assert with_logits(with_logits(graph)) == with_logits(graph)
    with pytest.raises(NotAServedGraph, match="logits"):
        with_logits(linear_graph(IDENTITY, CLASSES, logits="scores"))


def test_batches_give_what_one_run_gives(linear_graph: LinearGraph) -> None:
    session = open_graph(linear_graph(IDENTITY, CLASSES))
    rows: dict[str, np.ndarray] = {
        "x": np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32),
        "extra": np.zeros(10),
    }

    (whole,) = run_in_batches(session, rows, ["label"], batch_size=100)
    (parts,) = run_in_batches(session, rows, ["label"], batch_size=3)

    assert parts.tolist() == whole.tolist()
    with pytest.raises(ValueError, match=r"asks for \['x'\], got \['extra'\]"):
        run_in_batches(session, {"extra": rows["extra"]}, ["label"])
    with pytest.raises(ValueError, match="at least one"):
        run_in_batches(session, {"x": rows["x"][:0]}, ["label"])
