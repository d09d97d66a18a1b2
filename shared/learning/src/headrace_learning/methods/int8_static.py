"""Static int8 quantisation: weights become int8, and activations uint8 in ranges that training rows show.

Each matrix product and convolution with constant weights is written between `QuantizeLinear` and `DequantizeLinear`,
which ONNX Runtime joins to integer kernels. An answer does not depend on the other rows of its call, as with
`int8-dynamic`, and convolutions are quantised too.

Weights use 7 of their 8 bits, each output with a scale of its own: two products of uint8 and int8 then fit the 16 bits
that processors without VNNI add them in (2 * 255 * 64 < 2^15), so that the graph answers rightly on every processor.
All 8 bits are written on a processor that adds in 32 bits alone: a release gives a graph to classes that measured it.

Ranges follow from a histogram of the sizes of each tensor. `percentile` cuts what lies beyond 99.99 % of the numbers;
`entropy` cuts where the Kullback-Leibler divergence of the rounded from the true distribution is least, as in Migacz,
"8-bit inference with TensorRT" (2017); `minmax` cuts nothing; `best` takes the one of them that errs least. Every fifth
row shows no range, errors are measured on these. Where answers are further from float's than the spec allows, outliers
are moved from activations to weights (`smoothing`), if that helps. Where they still are, layers are quantised alone,
and those that err most stay float: at most half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from headrace_data.spec import StaticVariant
from headrace_engines.beside import Graph
from headrace_engines.processors import adds_in_32_bits, own_class

from headrace_learning.graphs import Columns
from headrace_learning.large import structure_of
from headrace_learning.methods.folding import fold_normalisation
from headrace_learning.methods.method import Made, Method, NotApplicable, Source
from headrace_learning.methods.observing import Fidelity, Histogram, histograms
from headrace_learning.methods.qdq import EIGHT_BITS, SEVEN_BITS, STEPS, Layer, Ranges, layers_of, quantised
from headrace_learning.methods.smoothing import smoothed

_PERCENTILE: Final = 0.9999
_MOST_RANKED: Final = 128
"""Layers that are tried one by one, at most."""
_RANKED_ROWS: Final = 128
_FIFTH: Final = 5
_MOVES: Final = {"Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that answer numbers of their input as they are."""
_LARGEST: Final = {7: SEVEN_BITS, 8: EIGHT_BITS}
_EVERYWHERE: Final = 7
"""Bits of weights that every processor multiplies rightly."""
_GAIN: Final = 0.8
"""What an error has to become, as a share of what it is, for outliers to be moved."""
Write = Callable[[Graph, Sequence[Layer], Ranges], Graph]
"""Writes a graph with some layers quantised."""


@dataclass(frozen=True)
class Ranged:
    """The ranges of a graph's tensors."""

    graph: Graph
    layers: Sequence[Layer]
    """That can be quantised."""
    how: str
    """How they were chosen."""
    ranges: Ranges
    error: float
    """That of answers, with every layer quantised."""


def quantise_static(source: Source, section: StaticVariant) -> Made | NotApplicable:
    """Return the graph with products and convolutions quantised.

    Equal graphs and rows give equal bytes. Not applicable without training rows, and when there is nothing to quantise.
    """
    own = source.cpu_class or own_class()
    # What is measured here for another class is served there.
    if section.bits > _EVERYWHERE and not all(map(adds_in_32_bits, (own, own_class()))):
        return NotApplicable(
            "int8-static: expected a processor that adds products of 8 bits in 32 bits (VNNI, AMX, or ARM's dot "
            f"product) for bits: 8, got class {own}, measured on {own_class()}: sums of 16 bits would be cut off"
        )
    graph = fold_normalisation(source.graph)
    layers = layers_of(graph)
    if not layers:
        found = Counter(node.op_type for node in structure_of(graph).graph.node)
        listed = ", ".join(f"{count} {operator}" for operator, count in sorted(found.items()))
        return NotApplicable(
            "int8-static: expected at least one matrix product or convolution (MatMul, Gemm, Conv) with constant "
            f"weights, got a graph of {listed}"
        )
    rows = source.calibration.rows(section.rows)
    if not rows:
        return NotApplicable("int8-static: expected rows of the training split to calibrate on, got none")
    shown, others = apart(rows)
    fidelity = Fidelity(source.graph, {name: each[:_RANKED_ROWS] for name, each in others.items()})
    write = partial(quantised, largest=_LARGEST[section.bits])
    plain = ranges_of(graph, layers, shown, fidelity, section.calibrate, write)
    tried = plain if plain.error <= section.error else _evened(plain, shown, fidelity, section, write)
    made, kept = _faithful(tried, fidelity, section.error, write)
    told = source.calibration.told(rows) | {"ranges": tried.how, "quantised": f"{len(kept)} of {len(layers)}"}
    if tried is not plain:
        told |= {"outliers": "moved to weights"}
    if section.bits > _EVERYWHERE:
        told |= {"bits": str(section.bits), "cpu_class": own}
    reverted = [layer.node.name for layer in tried.layers if layer not in kept]
    return Made(made, told | ({"reverted": ", ".join(reverted)} if reverted else {}))


def apart(rows: Columns) -> tuple[Columns, Columns]:
    """Return the rows that ranges follow from, and every fifth, by which errors are measured. Few rows are both."""
    count = len(next(iter(rows.values())))
    if count < 2 * _FIFTH:
        return rows, rows
    others = np.arange(count) % _FIFTH == 0
    shown, held = ({name: each[which] for name, each in rows.items()} for which in (~others, others))
    return shown, held


def ranges_of(
    graph: Graph, layers: Sequence[Layer], rows: Columns, fidelity: Fidelity, asked: str, write: Write
) -> Ranged:
    """Return the range of each tensor that is rounded."""
    names = {layer.value for layer in layers} | {layer.leaves for layer in layers if layer.leaves}
    alike = _alike(structure_of(graph).graph, names)
    seen = histograms(graph, sorted(names), rows)
    chosen = {
        how: {name: cut(seen[alike.get(name, name)]) for name in seen}
        for how, cut in _RANGES.items()
        if asked in (how, "best")
    }
    errors = {how: fidelity.error(write(graph, layers, each)) for how, each in chosen.items()}
    how = min(errors, key=errors.__getitem__)
    return Ranged(graph, layers, how, chosen[how], errors[how])


def _evened(plain: Ranged, rows: Columns, fidelity: Fidelity, section: StaticVariant, write: Write) -> Ranged:
    """Return a graph whose outliers were moved from activations to weights, or the same where that gains too little."""
    graph = smoothed(plain.graph, rows, _LARGEST[section.bits])
    if graph is None:
        return plain
    even = ranges_of(graph, layers_of(graph), rows, fidelity, section.calibrate, write)
    return even if even.error < max(section.error, _GAIN * plain.error) else plain


def _alike(graph: onnx.GraphProto, names: Collection[str]) -> dict[str, str]:
    """Return which tensors are numbers of another one in another order, or some of them: one range is that of both."""
    makers = {name: node for node in graph.node for name in node.output}
    found = {}
    for name in names:
        before = name
        while (node := makers.get(before)) is not None and node.op_type in _MOVES:
            before = node.input[0]
            if before in names:
                found[name] = before
    return found


def _by_percentile(seen: Histogram) -> tuple[float, float]:
    below = np.cumsum(seen.counts) >= _PERCENTILE * seen.counts.sum()
    return seen.cut(seen.largest * (int(np.argmax(below)) + 1) / len(seen.counts))


def _by_entropy(seen: Histogram) -> tuple[float, float]:
    counts, bins = seen.counts.astype(np.float64), len(seen.counts)
    counts[0] = counts[1]  # what is 0, as behind a Relu, is no matter of the ranges
    levels = STEPS + 1 if seen.least == 0 or seen.most == 0 else (STEPS + 1) // 2
    divergences = {kept: _divergence(counts, kept, levels) for kept in range(levels, bins + 1, bins // 128)}
    return seen.cut(seen.largest * min(divergences, key=divergences.__getitem__) / bins)


def _divergence(counts: npt.NDArray[np.float64], kept: int, levels: int) -> float:
    """Return how far the first bins, rounded to levels, are from the whole, with what is cut off at their end."""
    true = counts[:kept].copy()
    true[-1] += counts[kept:].sum()
    level = np.arange(kept) * levels // kept
    there = counts[:kept] > 0
    sums, places = np.bincount(level, counts[:kept], levels), np.bincount(level, there, levels)
    rounded = np.where(there, (sums / np.maximum(places, 1))[level], 0)
    both = (true > 0) & (rounded > 0)
    if not both.any():
        return float("inf")
    p, q = true / true.sum(), rounded / rounded.sum()
    # What the rounded one has not at all, such as outliers in an empty last bin, weighs as the least that counts.
    return float((p[both] * np.log(p[both] / q[both])).sum() + (p[(true > 0) & ~both]).sum() * np.log(1e6))


_RANGES: Final[Mapping[str, Callable[[Histogram], tuple[float, float]]]] = {
    "minmax": lambda seen: (seen.least, seen.most),
    "percentile": _by_percentile,
    "entropy": _by_entropy,
}


def _faithful(tried: Ranged, fidelity: Fidelity, most: float, write: Write) -> tuple[Graph, Sequence[Layer]]:
    """Return the graph with as many layers quantised as its error allows, and which these are."""
    graph, layers, ranges = tried.graph, tried.layers, tried.ranges
    if tried.error <= most or not 1 < len(layers) <= _MOST_RANKED:
        return write(graph, layers, ranges), layers
    alone = [fidelity.error(write(graph, [layer], ranges)) for layer in layers]
    worst = sorted(range(len(layers)), key=lambda place: -alone[place])

    def without(count: int) -> list[Layer]:
        return [layer for place, layer in enumerate(layers) if place not in worst[:count]]

    low, high = 1, len(layers) // 2
    while low < high:
        middle = (low + high) // 2
        if fidelity.error(write(graph, without(middle), ranges)) <= most:
            high = middle
        else:
            low = middle + 1
    return write(graph, without(low), ranges), without(low)


METHOD = Method(quantise_static, large=True)
