import re

import pytest
from headrace_data.tasks.classification import ACCURACY
from headrace_model_registry.core.comparison import Comparison, compare
from headrace_model_registry.core.facts import Evaluation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

STEADY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The same on a machine with much else to do."""


def evaluation(version, dataset, right, rows):
    return Evaluation(version, dataset, rows, {"accuracy": right / rows, "log_loss": 0.1})


def test_both_versions_are_scored_over_the_rows_of_both_test_splits():
    evaluations = [
        evaluation("new", "d2", 90, 100),
        evaluation("new", "d1", 45, 50),
        evaluation("old", "d2", 80, 100),
        evaluation("old", "d1", 50, 50),
    ]
    compared = compare(evaluations, [], "new", "old", ["d2", "d1"], ACCURACY)
    assert isinstance(compared, Comparison)
    assert (compared.candidate.amount, compared.champion.amount) == (135, 130)
    assert compared.rows == (("d2", 100), ("d1", 50))
    assert not compared.worse
    assert str(compared.candidate) == "135 of 150 right (accuracy 0.9000)"


def test_a_split_of_both_counts_once():
    evaluations = [evaluation("new", "d", 9, 10), evaluation("old", "d", 8, 10)]
    compared = compare(evaluations, [], "new", "old", ["d", "d"], ACCURACY)
    assert isinstance(compared, Comparison)
    assert compared.candidate.rows == 10


@pytest.mark.parametrize(("right", "worse"), [(11, False), (10, False), (9, True)])
def test_one_row_less_is_worse_and_as_many_are_not(right, worse):
    evaluations = [evaluation("new", "d", right, 30), evaluation("old", "d", 10, 30)]
    compared = compare(evaluations, [], "new", "old", ["d"], ACCURACY)
    assert isinstance(compared, Comparison)
    assert compared.worse is worse


def test_many_rows_outweigh_few():
    evaluations = [
        evaluation("new", "big", 990, 1000),
        evaluation("new", "small", 0, 10),
        evaluation("old", "big", 970, 1000),
        evaluation("old", "small", 10, 10),
    ]
    compared = compare(evaluations, [], "new", "old", ["big", "small"], ACCURACY)
    assert isinstance(compared, Comparison)
    assert not compared.worse


@pytest.mark.parametrize(
    ("evaluations", "missing"),
    [
        ([], "version new on dataset d was not measured"),
        ([evaluation("new", "d", 1, 2)], "version old on dataset d was not measured"),
        ([Evaluation("new", "d", 2, {}), evaluation("old", "d", 1, 2)], "version new on dataset d was not measured"),
        ([evaluation("new", "d", 1, 2), evaluation("old", "d", 1, 3)], r"different rows of dataset d: \[2, 3\]"),
        ([Evaluation("new", "d", 2, {"accuracy": float("nan")}), evaluation("old", "d", 1, 2)], "is nan, expected 0"),
        ([Evaluation("new", "d", 2, {"accuracy": 1.5}), evaluation("old", "d", 1, 2)], "is 1.5, expected 0 to 1"),
    ],
)
def test_what_is_missing_is_named(evaluations, missing):
    compared = compare(evaluations, [], "new", "old", ["d"], ACCURACY)
    assert isinstance(compared, str)
    assert re.search(missing, compared)


@STEADY
@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5))
def test_counts_survive_their_way_through_accuracies(splits):
    evaluations, rights = [], [0, 0]
    for position, (rows, *shares) in enumerate(splits):
        for side, (version, share) in enumerate(zip(("new", "old"), shares, strict=True)):
            right = int(share * rows)
            rights[side] += right
            evaluations.append(evaluation(version, f"d{position}", right, rows))
    compared = compare(evaluations, [], "new", "old", [f"d{position}" for position in range(len(splits))], ACCURACY)
    assert isinstance(compared, Comparison)
    assert [compared.candidate.amount, compared.champion.amount] == rights
    assert compared.worse is (rights[0] < rights[1])
