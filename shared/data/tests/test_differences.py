"""How certain a difference is, beside what is worked out by hand and by many repeats."""

import math

import numpy as np
import pytest
from headrace_data.tasks import TASKS, Differences, Groups, at_worst
from headrace_data.tasks.differences import GROUPS, students_t

REGRESSION = TASKS["regression"]


def groups_of(answers: np.ndarray, truth: np.ndarray, batches: int = 1) -> Groups:
    groups = Groups(REGRESSION, lambda: REGRESSION.scores(()))
    for given, labels in zip(np.array_split(answers, batches), np.array_split(truth, batches), strict=True):
        groups.add({"prediction": given}, labels)
    return groups


@pytest.mark.parametrize(
    ("share", "freedom", "expected"),
    [(0.95, 19, 1.7291), (0.99, 19, 2.5395), (0.975, 10, 2.2281), (0.95, 10**9, 1.6449)],  # tables of Student's t
)
def test_quantiles_of_students_t(share: float, freedom: int, expected: float) -> None:
    assert students_t(share, freedom) == pytest.approx(expected, rel=2e-3)


def test_the_error_is_the_spread_of_the_groups_differences_however_rows_come() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=1000)
    one, other = (truth + random.normal(scale=scale, size=1000) for scale in (0.1, 0.2))
    apart = [
        math.sqrt(np.mean((other[k::GROUPS] - truth[k::GROUPS]) ** 2))
        - math.sqrt(np.mean((one[k::GROUPS] - truth[k::GROUPS]) ** 2))
        for k in range(GROUPS)
    ]
    for batches in (1, 7):
        differences = Differences(REGRESSION)
        assert differences.of(groups_of(one, truth, batches)) == {"difference_error": 0.0}
        found = differences.of(groups_of(other, truth, batches))["difference_error"]
        assert found == pytest.approx(np.std(apart, ddof=1) / math.sqrt(GROUPS))


def test_the_interval_covers_the_difference_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    missed = 0
    for _ in range(300):
        # Two classifiers that are right in 90 % and 88 % of all rows, on 400 of them.
        truth = np.zeros(400)
        wrong = [random.random(400) < share for share in (0.1, 0.12)]
        differences = Differences(REGRESSION)
        first, second = (groups_of(each.astype(float), truth) for each in wrong)
        differences.of(first)
        rmse = [math.sqrt(np.mean(each)) for each in wrong]
        own = {"rmse": rmse[1], **differences.of(second)}
        missed += at_worst(own, REGRESSION.headline, 0.95)["rmse"] - rmse[0] < math.sqrt(0.12) - math.sqrt(0.1)
    assert 0.01 < missed / 300 < 0.1


def test_too_few_rows_make_nothing_certain() -> None:
    differences = Differences(REGRESSION)
    assert differences.of(groups_of(np.zeros(GROUPS - 1), np.ones(GROUPS - 1))) == {}
    assert math.isnan(at_worst({"rmse": 1.0}, REGRESSION.headline, 0.95)["rmse"])
