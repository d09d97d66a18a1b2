"""Gates: measured conditions that a variant must meet beside fp32, the uncompressed form of the same version."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from headrace_data.tasks.measure import Measure, Metrics


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
    of_itself: bool = False
    """Whether a variant is measured by itself, fp32 too; else fp32 passes, being what the others are held against."""
    told: Callable[[Metrics, Metrics], str] | None = None
    """From the same to what is said of a variant that fails, such as of which rows; None for nothing."""
    of_weights: bool = False
    """Whether it holds that a variant computes what the version's weights do: while the spec leaves its limit as it is,
    variants that learn anew are judged by their task's `learned` in its place."""


def reached(measure: Measure) -> Gate:
    """Return the gate of a measure that each variant must reach by itself: at least where more is better."""
    name = measure.name
    return Gate(name, "limits", lambda own, _: own.get(name, math.nan), math.nan, measure.better == "more", True)


def not_worse(measure: Measure) -> Gate:
    """Return the gate of how much a variant may be worse than fp32 by a measure, in its unit."""
    name, sign = measure.name, 1.0 if measure.better == "more" else -1.0

    def measured(own: Metrics, reference: Metrics) -> float:
        return sign * (reference.get(name, math.nan) - own.get(name, math.nan))

    return Gate(f"worse/{name}", "worse", measured, 0.0)


def ratio(name: str) -> Callable[[Metrics, Metrics], float]:
    """Return what a measurement is as a share of fp32's."""

    def measured(own: Metrics, reference: Metrics) -> float:
        over, under = own.get(name, math.nan), reference.get(name, math.nan)
        return over / under if under > 0 else math.nan

    return measured


def rise(measure: Measure, name: str = "errorRise", setting: str = "error_rise") -> Gate:
    """Return the gate of how much a variant's error may rise over fp32's, as a share of it."""

    def measured(own: Metrics, reference: Metrics) -> float:
        before, after = reference.get(measure.name, math.nan), own.get(measure.name, math.nan)
        # A reference without any error cannot be divided by: only a variant without error is as good.
        return 0.0 if before == after == 0.0 else after / before - 1.0 if before > 0.0 else math.nan

    return Gate(name, setting, measured, 0.0)


def drop(measure: Measure, name: str, setting: str) -> Gate:
    """Return the gate of how much a variant may lose of a measure beside fp32, in its unit."""
    return Gate(name, setting, not_worse(measure).measured, 0.0)


LATENCY: Final = "latency_ms_batch_1"
"""Median time of one run with one row, in milliseconds."""
SIZE: Final = "size_bytes"
"""Size of the graph."""
MEMORY: Final = "memory_bytes"
"""Memory that a graph holds once it is loaded and has answered 32 rows."""
BATCH_LATENCY: Final = "latency_ms_batch_32"
"""Median time of one run with 32 rows, in milliseconds."""
P99: Final = "latency_p99_ms_batch_1"
"""What one run in a hundred with one row exceeds, in milliseconds."""
BATCH_P99: Final = "latency_p99_ms_batch_32"
"""The same of runs with 32 rows."""
NON_FINITE: Final = "non_finite_rows"
"""Rows with an answer that is no finite number."""
UNREPEATABLE: Final = "unrepeatable_rows"
"""Rows of a batch to which the same batch gave other bytes the second time."""


def _benefit(own: Metrics, reference: Metrics) -> float:
    """Return the least of a variant's size and latencies as a share of fp32's: what it is there for."""
    shares = (ratio(name)(own, reference) for name in (SIZE, LATENCY, BATCH_LATENCY))
    return min((share for share in shares if not math.isnan(share)), default=math.nan)


COMMON_GATES: Final = (
    Gate("sizeRatio", "size_ratio", ratio(SIZE), 1.0),
    Gate("latencyRatio", "latency_ratio", ratio(LATENCY), 1.0),
    Gate("benefit", "benefit", _benefit, 1.0),
)
"""The gates of every task: what a variant costs."""
SOUND_GATES: Final = (
    # Of before they were counted nothing is known against them.
    Gate("finite", "", lambda own, _: own.get(NON_FINITE, 0.0), 0.0, of_itself=True),
    Gate("repeatable", "", lambda own, _: own.get(UNREPEATABLE, 0.0), 0.0, of_itself=True),
)
"""What every variant must be, fp32 too, whatever a pipeline says: rows that are not, of which there may be none."""
EMBEDDING_COSINE: Final = "embedding_cosine"
"""Mean cosine of a variant's embeddings of texts with those of fp32."""
EMBEDDING_GATE: Final = Gate(
    "embeddingCosine", "embedding_cosine", lambda own, _: own.get(EMBEDDING_COSINE, math.nan), 1.0, at_least=True
)
"""The gate of whoever answers embeddings: those of a variant are compared with vectors that another has made."""
MEMBERSHIP: Final = "membership_auc"
"""How well one who has a row tells by its loss whether a version learned from it: 0.5 is not at all, 1 is always."""
MEMBERSHIP_GATE: Final = Gate(
    "membershipAuc", "membership_auc", lambda own, _: own.get(MEMBERSHIP, math.nan), math.nan, of_itself=True
)
"""The gate of who limits that."""
