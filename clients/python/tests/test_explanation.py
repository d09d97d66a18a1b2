"""Explanations as the server answers them, taken apart."""

import numpy as np
import pytest
from headrace_client.errors import AnswerInvalid
from headrace_client.explanation import _explanation
from headrace_client.inference import InferenceResult


def result(**outputs):
    return InferenceResult("claims", "3", "id", {name.replace("__", "/"): value for name, value in outputs.items()})


def classified(**more):
    return result(
        label=np.array(["fraud"], object),
        probabilities=np.array([[0.7, 0.3]]),
        explained=np.array(["amount", "age"], object),
        probabilities__occlusion=np.array([[-0.25, 0.25], [0.05, -0.05]]),
        probabilities__reference=np.array([0.95, 0.05]),
        probabilities__remainder=np.array([-0.05, 0.05]),
        **more,
    )


def test_the_label_answered_is_explained_although_another_is_likelier():
    told = _explanation(classified(probabilities__labels=np.array(["well", "fraud"], object)))
    assert (told.label, told.answer, told.reference, told.remainder) == ("fraud", 0.3, 0.05, 0.05)
    assert told.added == {"amount": 0.25, "age": -0.05}


def test_without_the_order_of_the_classes_the_likeliest_is():
    assert _explanation(classified()).answer == 0.7


def test_a_regression_has_one_number():
    told = _explanation(
        result(
            prediction=np.array([12.0]),
            explained=np.array(["age"], object),
            prediction__occlusion=np.array([2.0]),
            prediction__reference=np.array(10.0),
            prediction__remainder=np.array(0.0),
        )
    )
    assert (told.label, told.answer, told.reference, told.added) == (None, 12.0, 10.0, {"age": 2.0})


def quantiles(**more):
    return result(
        quantiles=np.array([[1.0, 12.0, 20.0]]),
        explained=np.array(["age"], object),
        quantiles__occlusion=np.array([[0.0, 2.0, 5.0]]),
        quantiles__reference=np.array([1.0, 10.0, 15.0]),
        quantiles__remainder=np.zeros(3),
        **more,
    )


@pytest.mark.parametrize(
    ("levels", "answer", "reference", "added"),
    [(["0.1", "0.5", "0.9"], 12.0, 10.0, 2.0), (["0.5", "0.9", "0.99"], 1.0, 1.0, 0.0), ([], 12.0, 10.0, 2.0)],
)
def test_of_quantiles_the_median_is_explained_wherever_it_is(levels, answer, reference, added):
    told = _explanation(quantiles(**({"quantiles__labels": np.array(levels, object)} if levels else {})))
    assert (told.label, told.answer, told.reference, told.added) == (None, answer, reference, {"age": added})


def test_the_likeliest_of_several_labels_is_explained():
    told = _explanation(
        result(
            label_probabilities=np.array([[0.2, 0.9, 0.6]]),
            labels=np.array([[0, 1, 1]], np.uint8),
            explained=np.array(["age", "words"], object),
            label_probabilities__occlusion=np.array([[0.1, 0.3, 0.0], [0.0, -0.4, 0.1]]),
            label_probabilities__reference=np.array([0.1, 0.5, 0.5]),
            label_probabilities__remainder=np.array([0.0, 0.5, 0.0]),
            label_probabilities__labels=np.array(["sport", "politics", "law"], object),
        )
    )
    assert (told.label, told.answer, told.reference, told.remainder) == ("politics", 0.9, 0.5, 0.5)
    assert told.added == {"words": -0.4, "age": 0.3}


def test_of_several_steps_their_mean_is_explained():
    told = _explanation(
        result(
            prediction=np.array([[12.0, 20.0]]),
            explained=np.array(["age", "load"], object),
            prediction__occlusion=np.array([[2.0, 4.0], [-5.0, -9.0]]),
            prediction__reference=np.array([10.0, 14.0]),
            prediction__remainder=np.array([5.0, 11.0]),
        )
    )
    assert (told.label, told.answer, told.reference, told.remainder) == (None, 16.0, 12.0, 8.0)
    assert told.added == {"load": -7.0, "age": 3.0}


def test_of_quantiles_of_several_steps_the_mean_of_the_medians_is_explained():
    told = _explanation(
        result(
            quantiles=np.array([[[1.0, 12.0], [3.0, 20.0]]]),
            explained=np.array(["age"], object),
            quantiles__occlusion=np.array([[[0.0, 2.0], [1.0, 4.0]]]),
            quantiles__reference=np.array([[1.0, 10.0], [2.0, 14.0]]),
            quantiles__remainder=np.array([[0.0, 0.0], [0.0, 2.0]]),
            quantiles__labels=np.array(["0.1", "0.5"], object),
        )
    )
    assert (told.answer, told.reference, told.added, told.remainder) == (16.0, 12.0, {"age": 3.0}, 1.0)


def test_the_score_of_a_ranking_is_explained():
    told = _explanation(
        result(
            score=np.array([1.5]),
            explained=np.array(["price"], object),
            score__occlusion=np.array([0.5]),
            score__reference=np.array(1.0),
            score__remainder=np.array(0.0),
        )
    )
    assert (told.label, told.answer, told.reference, told.added) == (None, 1.5, 1.0, {"price": 0.5})


def test_a_server_that_does_not_explain_is_told():
    with pytest.raises(AnswerInvalid, match="does not explain its answers"):
        _explanation(result(label=np.array(["a"], object), probabilities=np.array([[1.0]])))
