"""A sample of rows with what was answered to them: uniform, of bounded size, the same each time."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from headrace_data.tasks import Answers
from headrace_learning.graphs import Array

MOST_ROWS: Final = 2_000
"""Rows that are kept, at most."""
_SEED: Final = 16


class Sampled:
    """Rows that come batch by batch, of which those with the smallest random ranks are kept.

    Rows of one group have one rank, so that a group is kept whole, but for the last one.
    """

    def __init__(self, *, grouped: bool) -> None:
        self.rows = 0
        """Rows that came."""
        self._grouped = grouped
        self._random = np.random.default_rng(_SEED)
        self._ranks = np.empty(0)
        self._columns: dict[str, Array] = {}
        self._answers: dict[str, Array] = {}
        self._truth: Array = np.empty(0)

    def add(self, columns: Mapping[str, Array], answers: Answers, truth: Array) -> None:
        """Add rows, with the fields that they are told apart by; at least one."""
        ranks = _ranks_of_groups(truth[:, 1]) if self._grouped else self._random.random(len(truth))
        first = not self.rows
        self.rows += len(truth)
        if not first:
            ranks = np.concatenate([self._ranks, ranks])
            columns = {name: np.concatenate([self._columns[name], columns[name]]) for name in self._columns}
            answers = {name: np.concatenate([self._answers[name], answers[name]]) for name in self._answers}
            truth = np.concatenate([self._truth, truth])
        kept = np.sort(np.argsort(ranks, kind="stable")[:MOST_ROWS])
        self._ranks, self._truth = ranks[kept], truth[kept]
        self._columns = {name: values[kept] for name, values in columns.items()}
        self._answers = {name: values[kept] for name, values in answers.items()}

    @property
    def answers(self) -> Answers:
        """What was answered to the rows that are kept."""
        return self._answers

    @property
    def share(self) -> float:
        """Rows that are kept over those that came."""
        return len(self._truth) / max(self.rows, 1)

    def drawn(self, random: np.random.Generator) -> tuple[Mapping[str, Array], Answers, Array]:
        """Return as many rows, or groups, drawn with replacement: fields, answers and truth."""
        places = self._places(random)
        columns = {name: values[places] for name, values in self._columns.items()}
        return columns, {name: values[places] for name, values in self._answers.items()}, self._truth[places]

    def _places(self, random: np.random.Generator) -> Array:
        if not self._grouped:
            return random.integers(len(self._truth), size=len(self._truth))
        # Rows of a group depend on each other, and are drawn together.
        groups, of = np.unique(self._truth[:, 1], return_inverse=True)
        members = np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of))[:-1])
        return np.concatenate([members[group] for group in random.integers(len(groups), size=len(groups))])


def _ranks_of_groups(groups: Array) -> Array:
    """Return a number from 0 to 1 for each group, as even as chance: Steele, Lea and Flood's mix, OOPSLA 2014."""
    mixed = groups.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    ranks: Array = (mixed ^ (mixed >> np.uint64(31))) / np.float64(2**64)
    return ranks
