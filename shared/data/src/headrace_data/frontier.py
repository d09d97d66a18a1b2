"""The frontier: of variants that were measured together, those that no other outdoes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from headrace_data.tasks import BATCH_LATENCY, BATCH_P99, LATENCY, MEMORY, P99, SIZE, Measure, Metrics

COSTS: Final = (LATENCY, P99, BATCH_LATENCY, BATCH_P99, SIZE, MEMORY)
"""What a variant costs: times at 1 and 32 rows, size and memory, each the better the less."""


def frontier(variants: Mapping[str, Metrics], quality: Measure) -> list[str]:
    """Return the names of the variants that no other outdoes, in their order, given the measurements of each.

    One outdoes another when it is as good by the measure and costs no more of anything, and is better in one of these.
    What was not measured of each, as in events of before it was, is left aside; without the measure none is outdone.
    """
    measured = [name for name in COSTS if all(name in metrics for metrics in variants.values())]
    if not all(quality.name in metrics for metrics in variants.values()):
        return list(variants)
    sign = -1.0 if quality.better == "more" else 1.0
    costs = {
        variant: (sign * metrics[quality.name], *(metrics[name] for name in measured))
        for variant, metrics in variants.items()
    }
    return [name for name, cost in costs.items() if not any(_outdoes(other, cost) for other in costs.values())]


def _outdoes(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
