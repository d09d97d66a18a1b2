"""What makes a version doubtful although it was trained: read from its metrics, said in one sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from headrace_data.tasks import Measure, Task, classes_of
from headrace_data.twins import near_twins, twins_text

_MISSING: Final = "missing/"
_CUT: Final = "cut/"
_MUCH: Final = 0.01
"""Share of texts that are read in part from which on it is told."""
_SHOWN: Final = 10


def doubts(task: Task, measure: Measure, metrics: Mapping[str, float]) -> list[str]:
    """Return what is doubtful about a version: the baseline it does not beat, empty or cut features, classes alike."""
    poor = _no_better(task, measure, metrics)
    found = [poor] if poor else []
    empty = [name.removeprefix(_MISSING) for name, share in metrics.items() if name.startswith(_MISSING) and share >= 1]
    if empty:
        names = ", ".join(f"'{name}'" for name in empty[:_SHOWN])
        more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
        dotted = "; a name with a dot is one key of a record: stream.select reads inside objects"
        hint = dotted if any("." in name for name in empty) else ""
        found.append(f"trained on no value of {names}{more}, missing in every row of the training split{hint}")
    for name, share in metrics.items():
        if name.startswith(_CUT) and share >= _MUCH:
            text = name.removeprefix(_CUT)
            told = f"reads the beginning alone of {share:.0%} of the texts '{text}'"
            found.append(f"{told}, which have more tokens than train.network.length")
    twins = [twins_text(group) for group in near_twins(classes_of(metrics))]
    return found + [
        f"trained to tell apart {group}, which differ by blanks, case or hidden characters only" for group in twins
    ]


def _no_better(task: Task, measure: Measure, metrics: Mapping[str, float]) -> str:
    """Return that a version is no better than its baseline, with both measurements; empty when it is better."""
    found = task.baseline(metrics, task.judged_by(measure))
    if found is None or not found.no_better:
        return ""
    own, other = found.measure.text(found.measured), found.measure.text(found.value)
    return f"no better than {found.always}: {found.measure.name} {own}, and {other} so"
