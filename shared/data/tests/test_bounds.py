"""Intervals of measurements, and what was lost at least from one to another."""

import numpy as np
import pytest
from headrace_data.bounds import MOST_ROWS, Bounded, BoundedScores, least_loss, widened, wilson
from headrace_data.tasks import TASKS

REGRESSION, CLASSIFICATION = TASKS["regression"], TASKS["classification"]


def test_shares_of_few_rows_have_wide_intervals_that_stay_shares() -> None:
    low, high = wilson(1.0, 20)
    assert 0.6 < low < 0.8
    assert high == 1.0
    # Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion", 2001: 0 of 10 at 95 %.
    assert wilson(0.0, 10, 1.96)[1] == pytest.approx(0.2775, abs=1e-3)


def test_a_loss_is_told_by_the_end_of_both_intervals_that_speaks_for_what_was_measured() -> None:
    accuracy, error = CLASSIFICATION.headline, REGRESSION.headline
    high, low = Bounded("", 0.9, 0.86, 0.93), Bounded("", 0.8, 0.75, 0.83)
    assert least_loss(accuracy, high, low) == pytest.approx(0.05)
    assert least_loss(accuracy, high, low, widened=2.0) == pytest.approx(0.0)
    assert least_loss(error, low, high) == pytest.approx(0.05)
    assert least_loss(accuracy, low, high) < -0.1


def test_who_looks_more_often_has_a_wider_interval() -> None:
    factors = [widened(rows, 100) for rows in (1, 100, 200, 1_000, 10_000, 1_000_000)]
    assert factors[:2] == [1.0, 1.0]
    assert factors == sorted(factors)
    assert factors[-1] < 1.6


def test_an_error_has_the_interval_that_its_deviation_says_however_the_rows_come() -> None:
    """The mean absolute error of normal noise: its deviation is that of a half-normal, 0.6028."""
    dice, rows = np.random.default_rng(5), 3_000
    truth = np.zeros(2 * MOST_ROWS, np.float32)
    answers = dice.normal(size=2 * MOST_ROWS).astype(np.float32)
    mae = next(each for each in REGRESSION.measured if each.name == "mae")
    bounded = BoundedScores(mae, lambda: REGRESSION.scores(()))
    assert bounded.bounded() is None
    for some in np.array_split(np.arange(rows), 20):
        bounded.add({"prediction": answers[some]}, truth[some])
    found = bounded.bounded()
    assert found is not None
    assert found.value == pytest.approx(np.abs(answers[:rows]).mean(), abs=1e-6)
    assert (found.high - found.low) / 2 == pytest.approx(3.09 * 0.6028 / rows**0.5, rel=0.3)
    # Beyond so many rows the deviation is told from those, for all.
    bounded.add({"prediction": answers[rows:]}, truth[rows:])
    later = bounded.bounded()
    assert later is not None
    assert (later.high - later.low) / 2 == pytest.approx(3.09 * 0.6028 / len(truth) ** 0.5, rel=0.3)
    assert bounded._counted == MOST_ROWS, "of one large batch no more than of many small ones"


def test_a_share_of_right_rows_has_the_interval_of_wilson() -> None:
    bounded = BoundedScores(CLASSIFICATION.headline, lambda: CLASSIFICATION.scores([0, 1]))
    right = np.arange(50) % 5 > 0
    probabilities = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]]).astype(np.float32)
    answers = {"probabilities": probabilities, "label": probabilities.argmax(axis=1)}
    bounded.add(answers, np.zeros(50, np.int64))
    assert bounded.bounded() == Bounded("accuracy", 0.8, *wilson(0.8, 50))


def test_equal_shares_are_seldom_called_worse_however_often_somebody_looks() -> None:
    """400 canaries of half of the calls, each looked at 60 times on the way to 20,000 rows of either."""
    dice, first = np.random.default_rng(1), 100
    looks = np.unique(np.geomspace(first, 20_000, 60).astype(int))
    alarms = {True: 0, False: 0}
    for _ in range(400):
        shares = [np.cumsum(dice.binomial(np.diff(looks, prepend=0), 0.9)) / looks for _ in range(2)]
        ends = [
            [Bounded("", share, *wilson(share, rows)) for share, rows in zip(own, looks.tolist(), strict=True)]
            for own in np.array(shares).tolist()
        ]
        for is_widened in alarms:
            alarms[is_widened] += any(
                least_loss(CLASSIFICATION.headline, one, other, widened(rows, first) if is_widened else 1.0) > 0
                for one, other, rows in zip(*ends, looks, strict=True)
            )
    assert alarms[True] <= 4 < alarms[False]
