"""Who learned from a row: the attack that a version is tried by.

Yeom, Giacomelli, Fredrikson and Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting" (CSF
2018), adversary 1: a row whose loss is low was learned from. Told is the area under its ROC curve over training and
test rows, whatever the threshold: 0.5 where it tells nothing. Others attack better, so it is a test and no bound.
"""

import numpy as np
from headrace_data.tasks.areas import areas
from headrace_learning.evaluation import Answerer, Labelled
from headrace_learning.graphs import Array

MOST_ROWS = 50_000
"""Rows of either kind that are looked at, the first ones, but for those of the last chunk."""


def attack_auc(answerer: Answerer, members: Labelled, others: Labelled) -> float:
    """Return how well losses tell the rows that were learned from, `members`, from others; there are some of both.

    The graph's task has losses of rows.
    """
    losses = [_losses(answerer, rows) for rows in (members, others)]
    found = areas(-np.concatenate(losses), np.repeat([True, False], [len(each) for each in losses]))
    return found[0] if found else float("nan")


def _losses(answerer: Answerer, rows: Labelled) -> Array:
    found: list[Array] = []
    for features, truth in rows:
        found.append(answerer.task.row_losses(answerer.answers(features), truth, answerer.classes))
        if sum(map(len, found)) >= MOST_ROWS:
            break
    return np.concatenate(found)
