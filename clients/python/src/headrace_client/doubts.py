"""What makes a version doubtful although it was trained: read from its metrics, said in one sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from headrace_data.twins import near_twins, twins_text

from headrace_client.baseline import warning

_OF_CLASS: Final = "accuracy/"
_MISSING: Final = "missing/"
_SHOWN: Final = 10


def doubts(metrics: Mapping[str, float]) -> list[str]:
    """Return what is doubtful about a version: the baseline it does not beat, empty features, classes nearly alike."""
    poor = warning(metrics)
    found = [poor] if poor else []
    empty = [name.removeprefix(_MISSING) for name, share in metrics.items() if name.startswith(_MISSING) and share >= 1]
    if empty:
        names = ", ".join(f"'{name}'" for name in empty[:_SHOWN])
        more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
        dotted = "; a name with a dot is one key of a record, as objects inside records are not read"
        hint = dotted if any("." in name for name in empty) else ""
        found.append(f"trained on no value of {names}{more}, missing in every row of the training split{hint}")
    classes = [name.removeprefix(_OF_CLASS) for name in metrics if name.startswith(_OF_CLASS)]
    twins = [twins_text(group) for group in near_twins(classes)]
    return found + [
        f"trained to tell apart {group}, which differ by blanks, case or hidden characters only" for group in twins
    ]
