"""Which of the variants that passed are served, and in what order. Pure functions of measurements and the spec."""

import math
from collections.abc import Callable, Sequence

from headrace_data.frontier import frontier
from headrace_data.spec import REFERENCE_VARIANT, Bounds, Objective
from headrace_data.tasks import LATENCY, P99, SIZE, Measure

from headrace_model_registry.core.facts import Variant
from headrace_model_registry.core.facts.classes import ClassVariants, GateResult, ServedVariant

CHEAPER = 0.9
"""A variant is cheaper that takes at most so much of another's time: less is what two measurements differ by."""
Rank = Callable[[Variant], tuple[float, ...]]
"""What a variant is chosen by: the least."""


def passing(variants: Sequence[Variant], results: Sequence[GateResult]) -> list[Variant]:
    """Return the variants that failed no gate."""
    failed = {result.variant for result in results if not result.passed}
    return [variant for variant in variants if variant.name not in failed]


def on_frontier(variants: Sequence[Variant], results: Sequence[GateResult], quality: Measure) -> tuple[str, ...]:
    """Return the names of the passing variants that no other of these outdoes."""
    return tuple(frontier({each.name: each.metrics for each in passing(variants, results)}, quality))


def ordered(
    variants: Sequence[Variant], results: Sequence[GateResult], objective: Objective, quality: Measure
) -> tuple[Variant, ...]:
    """Return the passing variants that may answer: the one that is served, then each that takes less time.

    Each that follows is the best by quality of those that take at most `CHEAPER` of the time of the one before, for a
    single row. Empty when no variant passes.
    """
    left = passing(variants, results)
    if not left:
        return ()
    chosen = [min(left, key=_rank(objective, quality))]
    by_quality = _rank("quality", quality)
    while left := [each for each in left if _takes_less(each, chosen[-1])]:
        chosen.append(min(left, key=by_quality))
    return tuple(chosen)


def _takes_less(one: Variant, other: Variant) -> bool:
    return _latency(one) < _latency(other) and _latency(one) <= CHEAPER * _latency(other)


def by_class(
    cpu_class: str, chosen: Sequence[Variant], elsewhere: Sequence[ClassVariants] = ()
) -> tuple[ClassVariants, ...]:
    """Return what is served on the class that variants were measured on and elsewhere; no class was told before."""
    return (ClassVariants(cpu_class, tuple(map(served, chosen))), *elsewhere) if cpu_class else ()


def on_unmeasured(variants: Sequence[Variant], results: Sequence[GateResult]) -> ServedVariant | None:
    """Return what is served where nothing was measured: the version as it was trained; None where that failed a gate.

    What it fails is what a pipeline limits whatever the processor is, such as how well one tells who was learned from.
    """
    return next((served(each) for each in passing(variants, results) if each.name == REFERENCE_VARIANT), None)


def served(variant: Variant) -> ServedVariant:
    """Return a variant as a release names it."""
    return ServedVariant(variant.name, variant.graph)


def _rank(objective: Objective, quality: Measure) -> Rank:
    """Return what variants are chosen by; what is equal in all of it goes by their order, so fp32 wins.

    Fastest means the smallest median latency at one row, because the passing variants answer equally well by the
    pipeline's own limits, and what is left to tell them apart is what a single caller waits for. At equal latency the
    smaller graph wins, which costs every replica less memory.
    """
    if objective == "fastest":
        return _speed
    if isinstance(objective, Bounds):
        bounds = objective
        return lambda variant: (max(1.0, _excess(variant, bounds)), _loss(variant, quality), *_speed(variant))
    return lambda variant: (_loss(variant, quality), *_speed(variant))


def _speed(variant: Variant) -> tuple[float, ...]:
    return (_latency(variant), _size(variant))


def _excess(variant: Variant, bounds: Bounds) -> float:
    """Return what a variant takes as a share of what it may, of that of which it takes most."""
    time_ms, size = _known(variant.metrics.get(P99)), _size(variant)
    shares = [time_ms / (bounds.p99 * 1e3)] if bounds.p99 is not None else []
    return max([*shares, *([size / bounds.size] if bounds.size is not None else [])])


def _loss(variant: Variant, quality: Measure) -> float:
    value = variant.metrics.get(quality.name)
    return _known(-value if value is not None and quality.better == "more" else value)


def _size(variant: Variant) -> float:
    """Return what was measured: of an adapter without its base, which is kept once for many."""
    return variant.metrics.get(SIZE, variant.graph.total_bytes)


def _latency(variant: Variant) -> float:
    return _known(variant.metrics.get(LATENCY))


def _known(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value
