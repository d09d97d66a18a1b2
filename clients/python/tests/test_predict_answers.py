"""`predict`: answers whose places have names, and the probability of the one that is given."""

from __future__ import annotations

import json

import numpy as np
import pytest
from headrace import open_inference

ROW = {"id": "a", "pixels": [[1, 2], [0, 1]]}


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


@pytest.mark.parametrize(
    ("labels", "told"),
    [('["4", "5"]', 0.25), ('["5", "4"]', 0.75), ('["cat", "dog"]', 0.75), ("", 0.75), ("{", 0.75), ("7", 0.75)],
)
def test_the_probability_is_that_of_the_answer_also_where_a_threshold_made_it(headrace, inference, labels, told):
    """The label answered is 4; which column is its own only the server knows."""
    inference.labels = {"probabilities": labels}
    result = headrace("predict", "digits", "--json", stdin=lines({"pixels": ROW["pixels"]}))
    (prediction,) = json.loads(result.stdout)
    assert (prediction["label"], prediction["probability"]) == (4, told)


def quantiles(request):
    rows = request.inputs[0].shape[0]
    answer = open_inference.ModelInferResponse(model_name="digits", model_version="3")
    answer.outputs.add(name="quantiles", datatype="FP64", shape=[rows, 3])
    answer.raw_output_contents.append(np.tile([3999.5, 4200.25, 1.7e9], (rows, 1)).astype("<f8").tobytes())
    return answer


def test_quantiles_are_shown_under_their_levels(headrace, inference):
    inference.answer, inference.labels = quantiles, {"quantiles": '["0.1", "0.5", "0.9"]'}
    shown = headrace("predict", "digits", "--batch", "2", stdin=lines(ROW, ROW)).stdout
    assert shown.splitlines()[0].split() == ["row", "0.1", "0.5", "0.9", "version", "variant", "cached"]
    assert shown.splitlines()[-1].split()[:5] == ["2", "3999.5", "4200.25", "1700000000", "3"]
    (told,) = json.loads(headrace("predict", "digits", "--json", stdin=lines(ROW)).stdout)
    assert told["outputs"] == {"quantiles": {"0.1": 3999.5, "0.5": 4200.25, "0.9": 1.7e9}}
    assert (told["label"], told["probability"], told["prediction"]) == (None, None, None)


def scores(request):
    rows = request.inputs[0].shape[0]
    answer = open_inference.ModelInferResponse(model_name="digits", model_version="3")
    answer.outputs.add(name="score", datatype="FP32", shape=[rows])
    answer.raw_output_contents.append(np.arange(-0.5, rows - 0.5, dtype="<f4").tobytes())
    return answer


def test_the_scores_of_a_ranking_are_shown(headrace, inference):
    inference.answer = scores
    shown = headrace("predict", "digits", "--batch", "2", stdin=lines(ROW, ROW)).stdout.splitlines()
    assert shown[0].split() == ["row", "score", "version", "variant", "cached"]
    assert [line.split()[:3] for line in shown[-2:]] == [["1", "-0.5", "3"], ["2", "0.5", "3"]]


def test_rows_that_two_versions_answered_stand_in_one_table(headrace, inference):
    """Of the first row's version nobody tells what its places stand for: it may be served no more."""
    versions = iter("34")

    def answer(request):
        given = quantiles(request)
        given.model_version = next(versions)
        inference.labels = {"quantiles": '["0.1", "0.5", "0.9"]'} if given.model_version == "4" else {}
        return given

    inference.answer = answer
    shown = headrace("predict", "digits", stdin=lines(ROW, ROW)).stdout.splitlines()
    assert shown[0].split() == ["row", "0.1", "0.5", "0.9", "version", "variant", "cached"]
    assert [line.split()[:2] for line in shown[-2:]] == [["1", "3"], ["2", "3999.5"]]


def test_numbers_that_nobody_named_are_a_list(headrace, inference):
    inference.answer = quantiles
    (told,) = json.loads(headrace("predict", "digits", "--json", stdin=lines(ROW)).stdout)
    assert told["outputs"] == {"quantiles": [3999.5, 4200.25, 1.7e9]}
