"""Gates: measured conditions that a variant must pass before it may be served. Pure functions of measurements.

Every gate compares a variant with fp32, the uncompressed form of the same version, measured in the same run on the same
machine and rows. Accuracy alone is no gate: two errors that cancel leave it unchanged while the answers differ, so the
answers themselves are compared too (agreement, relative logit error). A regression has one gate in their place: the
rise of its root mean squared error.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace_data.spec import REFERENCE_VARIANT

from headrace_model_registry.core.facts import GateResult, Variant

_ROUNDING = 1e-9
"""A measurement this little over its limit is at the limit: 0.97 - 0.96 is more than 0.01 in binary."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that a pipeline sets, each against fp32."""

    accuracy_drop: float
    """Highest loss of accuracy, absolute."""
    agreement: float
    """Lowest share of rows with the same answer, 0 to 1."""
    relative_logit_error: float
    """Highest relative error of the logits."""
    size_ratio: float
    """Highest size of the graph as a share of fp32's."""
    latency_ratio: float
    """Highest median latency at batch 1 as a share of fp32's."""
    error_rise: float = 0.02
    """Highest rise of a regression's root mean squared error, as a share of fp32's."""
    regression: bool = False
    """Whether the gates are those of a regression."""


def judge(variants: Sequence[Variant], limits: Limits) -> tuple[GateResult, ...]:
    """Return every gate of every variant, in their order; fp32 itself passes, being what the limits refer to.

    A measurement that is missing or not a number fails its gate. Without fp32 there is nothing to refer to, and no
    variant passes.
    """
    reference = next((variant for variant in variants if variant.name == REFERENCE_VARIANT), None)
    results: list[GateResult] = []
    for variant in variants:
        if variant is reference:
            results += [
                GateResult(variant.name, gate, True, limit, neutral) for gate, limit, neutral in _trivial(limits)
            ]
        else:
            results += _against(variant, reference.metrics if reference else {}, limits)
    return tuple(results)


def empty_features(metrics: Mapping[str, float]) -> tuple[GateResult, ...]:
    """Return one result for each feature that no training row had, by a version's metrics: told, and no reason to fail.

    A stream may begin to send a field later; what must not happen is that nobody learns of it.
    """
    told = [name for name in metrics if name.startswith("missing/")]
    return tuple(GateResult(REFERENCE_VARIANT, name, True, 1.0, metrics[name]) for name in told)


def best(variants: Sequence[Variant], results: Sequence[GateResult]) -> Variant | None:
    """Return the passing variant that answers fastest, None when no variant passes.

    Fastest means the smallest median latency at batch 1, because the passing variants answer equally well by the
    pipeline's own limits, and what is left to tell them apart is what a single caller waits for. At equal latency the
    smaller graph wins, which costs every replica less memory; at equal size the first one, so fp32 wins a full tie.
    """
    failed = {result.variant for result in results if not result.passed}
    passing = [variant for variant in variants if variant.name not in failed]
    return min(passing, key=lambda variant: (_latency(variant), variant.graph.size_bytes), default=None)


def _trivial(limits: Limits) -> list[tuple[str, float, float]]:
    common = [("sizeRatio", limits.size_ratio, 1.0), ("latencyRatio", limits.latency_ratio, 1.0)]
    if limits.regression:
        return [("errorRise", limits.error_rise, 0.0), *common]
    return [
        ("accuracyDrop", limits.accuracy_drop, 0.0),
        ("agreement", limits.agreement, 1.0),
        ("relativeLogitError", limits.relative_logit_error, 0.0),
        *common,
    ]


def _against(variant: Variant, reference: Mapping[str, float], limits: Limits) -> list[GateResult]:
    own = variant.metrics
    return [
        *(_numbers if limits.regression else _classes)(variant, reference, limits),
        _at_most(variant.name, "sizeRatio", limits.size_ratio, _ratio(own, reference, "size_bytes")),
        _at_most(variant.name, "latencyRatio", limits.latency_ratio, _ratio(own, reference, "latency_ms_batch_1")),
    ]


def _classes(variant: Variant, reference: Mapping[str, float], limits: Limits) -> list[GateResult]:
    own = variant.metrics
    drop = _measured(reference, "accuracy") - _measured(own, "accuracy")
    return [
        _at_most(variant.name, "accuracyDrop", limits.accuracy_drop, drop),
        _at_least(variant.name, "agreement", limits.agreement, _measured(own, "agreement")),
        _at_most(
            variant.name, "relativeLogitError", limits.relative_logit_error, _measured(own, "relative_logit_error")
        ),
    ]


def _numbers(variant: Variant, reference: Mapping[str, float], limits: Limits) -> list[GateResult]:
    before, after = _measured(reference, "rmse"), _measured(variant.metrics, "rmse")
    # A reference without any error cannot be divided by: only a variant without error is as good.
    rise = 0.0 if before == after == 0.0 else after / before - 1.0 if before > 0.0 else math.nan
    return [_at_most(variant.name, "errorRise", limits.error_rise, rise)]


def _at_most(variant: str, gate: str, limit: float, measured: float) -> GateResult:
    if math.isnan(measured):
        return GateResult(variant, gate, False, limit, math.inf)
    return GateResult(variant, gate, measured <= limit + _ROUNDING, limit, measured)


def _at_least(variant: str, gate: str, limit: float, measured: float) -> GateResult:
    if math.isnan(measured):
        return GateResult(variant, gate, False, limit, -math.inf)
    return GateResult(variant, gate, measured >= limit - _ROUNDING, limit, measured)


def _ratio(own: Mapping[str, float], reference: Mapping[str, float], name: str) -> float:
    over, under = _measured(own, name), _measured(reference, name)
    return over / under if under > 0 else math.nan


def _measured(metrics: Mapping[str, float], name: str) -> float:
    return metrics.get(name, math.nan)


def _latency(variant: Variant) -> float:
    latency = _measured(variant.metrics, "latency_ms_batch_1")
    return math.inf if math.isnan(latency) else latency
