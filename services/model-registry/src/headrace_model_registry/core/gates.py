"""Gates: measured conditions that a variant must pass before it may be served. Pure functions of measurements.

Every gate compares a variant with fp32, the uncompressed form of the same version, measured in the same run on the same
machine and rows. Accuracy alone is no gate: two errors that cancel leave it unchanged while the answers differ, so the
answers themselves are compared too. Which gates there are is the task's: `headrace_data.tasks`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace_data.spec import REFERENCE_VARIANT
from headrace_data.tasks import Gate, Measure, at_worst

from headrace_model_registry.core.facts import NotApplicable, Variant
from headrace_model_registry.core.facts.classes import GateResult

_ROUNDING = 1e-9
"""A measurement this little over its limit is at the limit: 0.97 - 0.96 is more than 0.01 in binary."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit that a pipeline sets to a gate."""

    gate: Gate
    value: float
    spares: frozenset[str] = frozenset()
    """Names of variants that it does not judge."""
    alone: frozenset[str] | None = None
    """Names of the variants that it judges; None for all."""

    def judges(self, name: str) -> bool:
        """Tell whether it judges the variant of a name."""
        return name not in self.spares and (self.alone is None or name in self.alone)


@dataclass(frozen=True, slots=True)
class Sureness:
    """How certain gates must hold that compare the measure which the task is known by with fp32's."""

    measure: Measure
    certainty: float
    """One-sided: 0.95 is right in 95 cases of 100."""


def judge(
    variants: Sequence[Variant], limits: Sequence[Limit], sureness: Sureness | None = None
) -> tuple[GateResult, ...]:
    """Return every gate of every variant, in their order; fp32 itself passes, being what the limits refer to.

    A gate of a measure by itself judges fp32 as well. A measurement that is missing or not a number fails its gate.
    Without fp32 there is nothing to refer to, and no variant passes. With `sureness` the bad end of what the difference
    from fp32 may be is judged.
    """
    reference = next((variant for variant in variants if variant.name == REFERENCE_VARIANT), None)
    beside = reference.metrics if reference else {}
    results = [
        _passed(each)
        if variant is reference and not each.gate.of_itself
        else _judged(variant, beside, each, None if each.gate.of_itself else sureness)
        for variant in variants
        for each in limits
        if each.judges(variant.name)
    ]
    return tuple(results)


def empty_features(metrics: Mapping[str, float]) -> tuple[GateResult, ...]:
    """Return one result for each feature that no training row had, by a version's metrics: told, and no reason to fail.

    A stream may begin to send a field later; what must not happen is that nobody learns of it.
    """
    told = [name for name in metrics if name.startswith("missing/")]
    return tuple(GateResult(REFERENCE_VARIANT, name, True, 1.0, metrics[name]) for name in told)


def not_applicable(found: Sequence[NotApplicable]) -> tuple[GateResult, ...]:
    """Return one result for each variant that does not apply to its version: it fails, and the others do not."""
    return tuple(GateResult(each.variant, "applicable", False, 1.0, 0.0, each.reason) for each in found)


def _passed(limit: Limit) -> GateResult:
    return GateResult(REFERENCE_VARIANT, limit.gate.name, True, limit.value, limit.gate.neutral)


def _judged(
    variant: Variant, reference: Mapping[str, float], limit: Limit, sureness: Sureness | None = None
) -> GateResult:
    own = at_worst(variant.metrics, sureness.measure, sureness.certainty) if sureness else variant.metrics
    gate, measured = limit.gate, limit.gate.measured(own, reference)
    if math.isnan(measured):
        measured = -math.inf if gate.at_least else math.inf
    over = limit.value - measured if gate.at_least else measured - limit.value
    passed = over <= _ROUNDING
    told = "" if passed or gate.told is None else f"{gate.name} {gate.told(variant.metrics, reference)}"
    reason = told and f"{variant.name} {told}: {measured:.4g}, limit {limit.value:.4g}"
    return GateResult(variant.name, gate.name, passed, limit.value, measured, reason)
