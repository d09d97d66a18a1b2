"""Ranking: a score for each row, by which the rows of a group, such as what one user was shown, are put in order.

What is measured is the order within each group, and each group counts alike. A row's truth is its relevance and the
number of its group, [rows, 2] float64, as a reader of datasets gives it that is told of groups.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from headrace_data.errors import DatasetUnusable
from headrace_data.tasks.gate import drop
from headrace_data.tasks.measure import Array, Measure, require_rows
from headrace_data.tasks.task import Always, Answers, Classes, Task

SCORE: Final = "score"
"""The output of a served graph: [rows] float32; of two rows of a group the one with more is ranked before the other."""
TOP: Final = 10
"""Places from the first on that NDCG and recall look at."""
FURTHER: Final = 50
NDCG: Final = Measure(f"ndcg_at_{TOP}", "share", "more", f"NDCG@{TOP}", "1 is the best order")
MRR: Final = Measure("mrr", "share", "more", "MRR", "one over the place of the first relevant row")
RECALL: Final = Measure(
    f"recall_at_{TOP}", "share", "more", f"recall@{TOP}", "of the relevant rows, how many are there"
)
FURTHER_RECALL: Final = Measure(f"recall_at_{FURTHER}", "share", "more", f"recall@{FURTHER}")
LIST_LOSS: Final = Measure("list_loss", "nats", "less", "list loss", "nats")
MOST_ROWS: Final = 2**21
"""Rows that are kept to be measured, 40 MiB: of up to so many every group counts."""


class RankingScores:
    """Measurements of scored rows, whose groups may come in any order and in pieces.

    Of more than `most` rows those of every second group are kept, of twice as many of every fourth, and so on. Which
    groups these are follows from their numbers, so versions that are measured on the same rows stay comparable. A group
    is measured whole, however many rows it has, and the last ones are never given up.
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._step = 1
        self._held: list[tuple[Array, Array]] = []
        self._rows = 0

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows; at least one."""
        scores = answers[SCORE]
        require_rows(scores, truth)
        kept = truth[:, 1] % self._step == 0
        self._held.append((scores[kept].astype(np.float32), truth[kept]))
        self._rows += int(kept.sum())
        while self._rows > self._most:
            scores, truth = self._together()
            kept = truth[:, 1] % (2 * self._step) == 0
            if not kept.any():
                self._most = 2 * self._rows  # or each batch to come would copy all rows anew
                break
            self._step *= 2
            self._held, self._rows = [(scores[kept], truth[kept])], int(kept.sum())

    def _together(self) -> tuple[Array, Array]:
        if len(self._held) > 1:
            scores, truths = zip(*self._held, strict=True)
            self._held = [(np.concatenate(scores), np.concatenate(truths))]
        return self._held[0]

    def quality(self) -> dict[str, float]:
        """Return the measures; nothing where no group has rows of different relevance, which alone have an order."""
        return measures_of(*self._together()) if self._rows else {}

    def metrics(self) -> dict[str, float]:
        """Return the same: no part of the rows is measured by itself."""
        return self.quality()


def measures_of(scores: Array, truth: Array) -> dict[str, float]:
    """Return the means over the groups whose rows differ in relevance; nothing where there is none.

    NDCG of Järvelin and Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques" (2002), the gain being the
    relevance itself and the discount log2 of the place and one. For MRR and recall a row is relevant that has any
    relevance. Rows with equal scores may come in any order: each measure is its mean over all of these, as in McSherry
    and Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores" (ECIR
    2008). So scores that are all equal have what a random order has on average.
    """
    order = np.lexsort((-scores, truth[:, 1]))
    scores, relevance, groups = scores[order].astype(np.float64), truth[order, 0], truth[order, 1]
    starts = _starts(groups)
    told = np.maximum.reduceat(relevance, starts) > np.minimum.reduceat(relevance, starts)
    if not told.any():
        return {}
    lengths = np.diff(np.append(starts, len(groups)))
    places = np.arange(len(groups)) - np.repeat(starts, lengths)
    ideal = relevance[np.lexsort((-relevance, groups))]
    ties = _Ties(_starts(groups, scores), len(groups))
    relevant = (relevance > 0).astype(np.float64)
    gains, found = ties.means(relevance), ties.means(relevant)
    discounts = np.where(places < TOP, 1 / np.log2(places + 2.0), 0.0)

    def of_groups(values: Array) -> Array:
        summed: Array = np.add.reduceat(values, starts)[told]
        return summed

    each = {
        NDCG: of_groups(gains * discounts) / of_groups(ideal * discounts),
        MRR: of_groups(ties.reciprocal_places(relevant, places, starts)),
        RECALL: of_groups(found * (places < TOP)) / of_groups(relevant),
        FURTHER_RECALL: of_groups(found * (places < FURTHER)) / of_groups(relevant),
        LIST_LOSS: of_groups(_list_losses(scores, relevance, starts, lengths)),
    }
    return {measure.name: float(values.mean()) for measure, values in each.items()}


class _Ties:
    """Runs of rows with the same score in the same group, of rows that are sorted by both."""

    def __init__(self, starts: Array, rows: int) -> None:
        self._starts = starts
        self._lengths = np.diff(np.append(starts, rows))

    def means(self, values: Array) -> Array:
        """Return for each row the mean over its run."""
        return self._of_rows(np.add.reduceat(values, self._starts) / self._lengths)

    def reciprocal_places(self, relevant: Array, places: Array, groups: Array) -> Array:
        """Return for each row of a group's first run with a relevant row its part of the mean of 1 over the place.

        Of n rows in random order, r of them relevant, the first relevant one is that at j, from 0, in C(n-j-1, r-1) of
        C(n, r) cases.
        """
        found = np.add.reduceat(relevant, self._starts)
        before = np.cumsum(found) - found
        earlier = before - before[np.searchsorted(self._starts, groups)][self._group_of(groups)]
        is_first = (found > 0) & (earlier == 0)
        size, hits = (self._of_rows(each).astype(np.int64) for each in (self._lengths, found))
        within = np.arange(len(places)) - self._of_rows(self._starts)
        taken = self._of_rows(is_first) & (size - within >= hits)
        n, r, j = size[taken], hits[taken], within[taken]
        logs = np.append(0.0, np.cumsum(np.log(np.arange(1.0, self._lengths.max() + 1))))

        def choose(of: Array, some: Array) -> Array:
            made: Array = logs[of] - logs[some] - logs[of - some]
            return made

        parts = np.zeros(len(places))
        parts[taken] = np.exp(choose(n - j - 1, r - 1) - choose(n, r)) / (places[taken] + 1.0)
        return parts

    def _group_of(self, groups: Array) -> Array:
        return np.searchsorted(groups, self._starts, side="right") - 1

    def _of_rows(self, values: Array) -> Array:
        repeated: Array = np.repeat(values, self._lengths)
        return repeated


def _starts(*columns: Array) -> Array:
    """Return where a value of any column differs from the one before, the first row included."""
    changed = np.any([each[1:] != each[:-1] for each in columns], axis=0)
    return np.append(0, np.flatnonzero(changed) + 1)


def _list_losses(scores: Array, relevance: Array, starts: Array, lengths: Array) -> Array:
    """Return for each row its part of the loss that is learned by: see the head of the task."""
    shifted = scores - np.repeat(np.maximum.reduceat(scores, starts), lengths)
    logs = shifted - np.repeat(np.log(np.add.reduceat(np.exp(shifted), starts)), lengths)
    totals = np.repeat(np.add.reduceat(relevance, starts), lengths)
    losses: Array = -logs * np.divide(relevance, totals, out=np.zeros(len(totals)), where=totals > 0)
    return losses


class Relevances:
    """What is seen of relevances: that they are none below zero, and whether any group has an order."""

    def __init__(self) -> None:
        self._seen = np.empty((0, 2))
        self.has_order = False
        """Whether the rows of a group differ in relevance."""

    def add(self, labels: Array) -> None:
        """Add the labels of some rows, [rows, 2]. Raises DatasetUnusable for one below zero."""
        lowest = float(labels[:, 0].min())
        if not lowest >= 0 or math.isinf(labels[:, 0].max()):
            raise DatasetUnusable(
                f"train.task ranking: expected relevances of 0 and more, such as clicks, got {lowest:g}; "
                "give the label the range [0, ...] and set prepare.clean.outOfRange to drop, or have the producer send "
                "others"
            )
        if not self.has_order:
            self._seen = np.unique(np.concatenate([self._seen, labels]), axis=0)
            self.has_order = len(np.unique(self._seen[:, 1])) < len(self._seen)

    def baseline(self) -> Always:
        """Return what measures a random order, as scores that are all equal have it."""
        return Always(RankingScores(), lambda rows: {SCORE: np.zeros(rows, np.float32)}, {})


class Ranking(Task):
    """A score by which the rows of a group are put in order."""

    kind = "ranking"
    answer = "a score by which the rows of a group are put in order, the highest first"
    unfit = frozenset({"string"})
    unfit_networks = frozenset({"imported", "trees"})
    least = 0.0
    grouped = True
    heeds = frozenset[str]()
    outputs = (SCORE,)
    headline = NDCG
    loss = LIST_LOSS
    measured = (NDCG, MRR, RECALL, FURTHER_RECALL, LIST_LOSS)
    beside = MRR.name
    always = "a random order"
    gates = (drop(NDCG, "ndcgDrop", "ndcg_drop"),)

    def labels(self, train: Any, places: Classes = ()) -> Relevances:
        """Return what checks relevances."""
        return Relevances()

    def point(self, answers: Answers, places: Classes) -> Array:
        """Return the scores."""
        return answers[SCORE].reshape(-1)

    def scores(
        self, classes: Classes, positive: int | str | None = None, compared: Classes = (), steps: Classes = ()
    ) -> RankingScores:
        """Return what measures answers."""
        return RankingScores()
