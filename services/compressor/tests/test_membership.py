"""The attack that versions are tried by: which rows they learned from, told by the loss of each."""

from dataclasses import replace

import numpy as np
import pytest
from headrace_compressor.core.compression import Version
from headrace_compressor.core.measurement import Rows, measure
from headrace_compressor.core.membership import attack_auc
from headrace_data.tasks import TASKS
from headrace_learning.evaluation import Answerer, Labelled, predict
from sklearn.metrics import roc_auc_score

pytestmark = pytest.mark.slow


def test_the_area_is_that_of_the_losses_by_hand(digits_mlp: Version, rows: Rows, learned: Labelled) -> None:
    found = attack_auc(Answerer(digits_mlp.graph), learned, rows.batches)
    losses = []
    for features, truth in (*learned, *rows.batches):
        answered = predict(digits_mlp.graph, features)
        columns = [list(answered.classes).index(value) for value in truth]
        losses.append(-np.log(answered.probabilities[np.arange(len(truth)), columns].astype(np.float64)))
    of_learned = np.repeat([1, 0], [len(each) for each in losses])
    assert found == pytest.approx(roc_auc_score(of_learned, -np.concatenate(losses)), abs=1e-6)
    assert found > 0.51


def test_rows_are_not_told_from_themselves(digits_mlp: Version, rows: Rows) -> None:
    assert attack_auc(Answerer(digits_mlp.graph), rows.batches, rows.batches) == pytest.approx(0.5)


def test_it_is_measured_where_rows_are_given_that_were_learned_from(
    digits_mlp: Version, rows: Rows, learned: Labelled
) -> None:
    for members in (None, learned):
        ((_, metrics),) = measure({"fp32": digits_mlp.graph}, replace(rows, members=members))
        assert ("membership_auc" in metrics) == (members is not None)


def test_the_loss_of_a_number_is_its_squared_error() -> None:
    answers = {"prediction": np.array([[1.0, 2.0], [0.0, 0.0]], np.float32)}
    losses = TASKS["regression"].row_losses(answers, np.array([[1.0, 4.0], [3.0, 1.0]]), ())
    assert losses.tolist() == [2.0, 5.0]


def test_a_task_that_tells_nothing_of_a_row_says_so() -> None:
    assert [kind for kind, task in TASKS.items() if task.has_row_losses] == ["classification", "regression"]
    with pytest.raises(TypeError, match="a ranking tells nothing of a row by itself"):
        TASKS["ranking"].row_losses({}, np.empty(0), ())
