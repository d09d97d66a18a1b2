"""Permutation importance: by how much a model's loss rises when a feature's values are given to other rows.

After Breiman, "Random Forests" (2001), and Fisher, Rudin and Dominici (2019), for any model: rows that it has not
learned from are answered once more for each feature. What two features tell alike is important in neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from headrace_data.tasks import Answers, Classes, Task

Array = npt.NDArray[Any]

MOST_ANSWERS: Final = 50_000
"""Rows that are answered for all features together, about."""
MOST_ROWS: Final = 2_000
FEWEST_ROWS: Final = 20
"""With fewer a shuffle says more of chance than of the feature."""


def importance(
    answer: Callable[[Mapping[str, Array]], Answers],
    columns: Mapping[str, Array],
    truth: Array,
    task: Task,
    places: Classes,
    steps: Classes = (),
) -> dict[str, float]:
    """Return the rise of the task's loss by feature, the greatest first; below zero where a model does better without.

    `columns` are the features, each [rows, *shape], and `places` what those of the answers stand for, `steps` the names
    of those of the label where there are numbers for each. Nothing is returned for a single feature, too few rows,
    so many features that each would have too few, or rows that have no loss, such as a ranking's of groups with one.
    """
    rows = min(len(truth), MOST_ROWS, MOST_ANSWERS // max(len(columns), 1))
    if len(columns) < 2 or rows < FEWEST_ROWS:
        return {}
    some, expected = {name: column[:rows] for name, column in columns.items()}, truth[:rows]

    def loss(given: Mapping[str, Array]) -> float | None:
        scores = task.scores(places, steps=steps)
        scores.add(answer(given), expected)
        return scores.quality().get(task.loss.name)

    # The same order for every feature, and each time: so reports of one version are equal.
    order = np.random.default_rng(rows).permutation(rows)
    if (whole := loss(some)) is None:
        return {}
    losses = {name: loss({**some, name: column[order]}) for name, column in some.items()}
    rises = {name: value - whole for name, value in losses.items() if value is not None}
    return dict(sorted(rises.items(), key=lambda rise: -rise[1]))
