"""Gates: measured conditions that a variant must meet beside fp32, the uncompressed form of the same version."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from headrace_data.tasks.measure import Metrics


@dataclass(frozen=True)
class Gate:
    """One condition."""

    name: str
    """As in a pipeline's document, under `compress.gates`."""
    setting: str
    """The attribute of the spec that holds its limit."""
    measured: Callable[[Metrics, Metrics], float]
    """From a variant's measurements and fp32's to what the limit is held against; NaN where one is missing."""
    neutral: float
    """What is measured of fp32 beside itself."""
    at_least: bool = False
    """Whether the limit is the lowest that passes; else it is the highest."""


def ratio(name: str) -> Callable[[Metrics, Metrics], float]:
    """Return what a measurement is as a share of fp32's."""

    def measured(own: Metrics, reference: Metrics) -> float:
        over, under = own.get(name, math.nan), reference.get(name, math.nan)
        return over / under if under > 0 else math.nan

    return measured


LATENCY: Final = "latency_ms_batch_1"
"""Median time of one run with one row, in milliseconds."""
COMMON_GATES: Final = (
    Gate("sizeRatio", "size_ratio", ratio("size_bytes"), 1.0),
    Gate("latencyRatio", "latency_ratio", ratio(LATENCY), 1.0),
)
"""The gates of every task: what a variant costs."""
