"""What is doubtful about a version, by its metrics."""

import pytest
from headrace_client.doubts import doubts
from headrace_data.tasks import TASKS
from headrace_data.tasks.classification import ACCURACY, CALIBRATION_ERROR
from headrace_data.tasks.regression import RMSE
from headrace_data.twins import near_twins, twins_text


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"accuracy": 0.9, "baseline_accuracy/a": 0.5, "accuracy/a": 0.9, "accuracy/b": 0.9}, []),
        (
            {"accuracy": 0.9, "missing/device.os": 1.0},
            [
                "trained on no value of 'device.os', missing in every row of the training split; a name with a dot is "
                "one key of a record: stream.select reads inside objects"
            ],
        ),
        ({"missing/a": 1.0}, ["trained on no value of 'a', missing in every row of the training split"]),
        (
            {"cut/review": 0.257, "cut/title": 0.009},
            [
                "reads the beginning alone of 26% of the texts 'review', which have more tokens than "
                "train.network.length"
            ],
        ),
        (
            {"accuracy/yes": 1.0, "accuracy/ yes": 1.0, "accuracy/Yes": 1.0, "accuracy/no": 1.0},
            ["trained to tell apart 'yes', ' yes' and 'Yes', which differ by blanks, case or hidden characters only"],
        ),
        (
            {"accuracy": 0.5, "baseline_accuracy/a": 0.5},
            ["no better than always answering 'a': accuracy 0.5000, and 0.5000 so"],
        ),
    ],
)
def test_each_doubt_is_told_in_one_sentence(metrics, told):
    assert doubts(TASKS["classification"], ACCURACY, metrics) == told


def test_a_measure_that_a_constant_wins_is_judged_by_the_headline_as_the_registry_does():
    metrics = {"accuracy": 0.5, "baseline_accuracy/a": 0.5, "calibration_error": 0.1, "baseline_calibration_error": 0.0}
    told = ["no better than always answering 'a': accuracy 0.5000, and 0.5000 so"]
    assert doubts(TASKS["classification"], CALIBRATION_ERROR, metrics) == told
    assert doubts(TASKS["classification"], CALIBRATION_ERROR, metrics | {"accuracy": 0.9}) == []


def test_numbers_in_the_unit_of_the_label_keep_their_digits():
    metrics = {"rmse": 3.25e-6, "baseline_rmse": 3.25e-6}
    told = ["no better than always answering the mean: rmse 3.25e-06, and 3.25e-06 so"]
    assert doubts(TASKS["regression"], RMSE, metrics) == told


def test_twins_look_alike():
    assert near_twins(["a", "b", "A ", "\u00a0a", "ab", "STRASSE", "stra\u00dfe", "a"]) == [
        ("a", "A ", "\u00a0a"),
        ("STRASSE", "stra\u00dfe"),
    ]
    unseen = ("yes", "yes\u200b", "\ufeffYes")
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert near_twins([*unseen, composed, "cafe", apart]) == [unseen, (composed, apart)]
    assert twins_text((composed, apart)) == r"'café' and 'cafe\u0301'"
    assert twins_text(unseen) == r"'yes', 'yes\u200b' and '\ufeffYes'"
    assert near_twins([]) == []
    assert twins_text(tuple(" " * place + "x" for place in range(9)), 2) == "'x', ' x' and 7 more"
