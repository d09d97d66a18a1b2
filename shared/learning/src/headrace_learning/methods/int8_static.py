"""Static int8 quantisation: weights become int8, and activations uint8 in ranges that training rows show.

Each matrix product and convolution with constant weights is written between `QuantizeLinear` and `DequantizeLinear`,
which ONNX Runtime joins to integer kernels. An answer does not depend on the other rows of its call, as with
`int8-dynamic`, and convolutions are quantised too.

Weights use 7 of their 8 bits, each output with a scale of its own: two products of uint8 and int8 then fit the 16 bits
that processors without VNNI add them in (2 * 255 * 64 < 2^15), so that the graph answers rightly on every processor.

Ranges follow from a histogram of the sizes of each tensor. `percentile` cuts what lies beyond 99.99 % of the numbers;
`entropy` cuts where the Kullback-Leibler divergence of the rounded from the true distribution is least, as in Migacz,
"8-bit inference with TensorRT" (2017); `minmax` cuts nothing; `best` takes the one of them that errs least. Every fifth
row shows no range, errors are measured on these. Where answers are further from float's than the spec allows, layers
are quantised alone, and those that err most stay float: at most half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from headrace_data.spec import StaticVariant
from onnx import TensorProto, helper, numpy_helper

from headrace_learning.graphs import Columns
from headrace_learning.methods.folding import fold_normalisation
from headrace_learning.methods.method import Made, Method, NotApplicable, Source
from headrace_learning.methods.observing import Fidelity, Histogram, histograms
from headrace_learning.methods.products import as_bytes, products, reads, rewritten

_LARGEST: Final = 64
"""Of the 7 bits of a weight."""
_STEPS: Final = 255
_PERCENTILE: Final = 0.9999
_OPSET: Final = 13
"""From this on scales may be those of an axis."""
_MOST_RANKED: Final = 128
"""Layers that are tried one by one, at most."""
_RANKED_ROWS: Final = 128
_FIFTH: Final = 5
_MOVES: Final = {"Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that answer numbers of their input as they are."""
_JOINED: Final = {
    "Elu",
    "HardSigmoid",
    "LeakyRelu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
    "ThresholdedRelu",
}
"""Operators that ONNX Runtime joins to a float product before it looks for whole numbers."""
Weights = npt.NDArray[np.float32]
Ranges = Mapping[str, tuple[float, float]]
"""From which number to which a tensor is rounded, by its name; both take in 0."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A product or convolution that can be quantised."""

    node: onnx.NodeProto
    weights: Weights
    """As the operator is written here: [inputs, outputs], or [outputs, inputs, *kernel] of a convolution."""
    axis: int
    """Along which its outputs lie in the weights."""
    bias: Weights | None
    value: str
    """Name of its input."""
    leaves: str = ""
    """Name of what leaves it where that is rounded at once: its output, or that of a Relu that the kernel does as well.
    Empty where others want the exact output."""
    apart: bool = False
    """Whether its product and its sum are two operators, so that what follows is not joined to it too early."""


def quantise_static(source: Source, section: StaticVariant) -> Made | NotApplicable:
    """Return the graph with products and convolutions quantised.

    Equal graphs and rows give equal bytes. Not applicable without training rows, and when there is nothing to quantise.
    """
    graph = fold_normalisation(source.graph)
    model = onnx.load_from_string(graph)
    layers = _layers(model)
    if not layers:
        found = Counter(node.op_type for node in model.graph.node)
        listed = ", ".join(f"{count} {operator}" for operator, count in sorted(found.items()))
        return NotApplicable(
            "int8-static: expected at least one matrix product or convolution (MatMul, Gemm, Conv) with constant "
            f"weights, got a graph of {listed}"
        )
    rows = source.calibration.rows(section.rows)
    if not rows:
        return NotApplicable("int8-static: expected rows of the training split to calibrate on, got none")
    shown, others = _apart(rows)
    fidelity = Fidelity(source.graph, {name: each[:_RANKED_ROWS] for name, each in others.items()})
    how, ranges = _ranges(graph, layers, shown, fidelity, section.calibrate)
    graph, kept = _faithful(graph, layers, ranges, fidelity, section.error)
    told = source.calibration.told(rows) | {"ranges": how, "quantised": f"{len(kept)} of {len(layers)}"}
    reverted = [layer.node.name for layer in layers if layer not in kept]
    return Made(graph, told | ({"reverted": ", ".join(reverted)} if reverted else {}))


def _apart(rows: Columns) -> tuple[Columns, Columns]:
    """Return the rows that ranges follow from, and every fifth, by which errors are measured. Few rows are both."""
    count = len(next(iter(rows.values())))
    if count < 2 * _FIFTH:
        return rows, rows
    others = np.arange(count) % _FIFTH == 0
    shown, held = ({name: each[which] for name, each in rows.items()} for which in (~others, others))
    return shown, held


def _layers(model: onnx.ModelProto) -> list[_Layer]:
    graph = model.graph
    if not any(each.domain == "" and each.version >= _OPSET for each in model.opset_import):
        return []
    constants = {each.name: each for each in graph.initializer if each.data_type == TensorProto.FLOAT}
    matrices = {each.name: each for each in products(graph)}
    readers = Counter(reads(graph))
    consumers = {name: node for node in graph.node for name in node.input}
    found = []
    for node in graph.node:
        name, bias = "".join(node.input[1:2]), "".join(node.input[2:3])
        if name in matrices and (not bias or bias in constants):
            axis, weights = 1, matrices[name].weights.T
        elif node.op_type == "Conv" and name in constants and readers[name] == 1 and (not bias or bias in constants):
            axis, weights = 0, numpy_helper.to_array(constants[name])
        else:
            continue
        after = consumers.get(node.output[0])
        leaves = node.output[0] if node.op_type == "Conv" else ""
        if after is not None and after.op_type == "Relu" and readers[node.output[0]] == 1:
            leaves = after.output[0]
        apart = node.op_type == "Gemm" and after is not None and after.op_type in _JOINED
        values = numpy_helper.to_array(constants[bias]).ravel() if bias else None
        if np.isfinite(weights).all() and (values is None or len(values) == weights.shape[axis]):
            found.append(_Layer(node, weights, axis, values, node.input[0], leaves, apart))
    return found


def _ranges(
    graph: bytes, layers: Sequence[_Layer], rows: Columns, fidelity: Fidelity, asked: str
) -> tuple[str, Ranges]:
    """Return how ranges were chosen, and the range of each tensor that is rounded."""
    names = {layer.value for layer in layers} | {layer.leaves for layer in layers if layer.leaves}
    alike = _alike(onnx.load_from_string(graph).graph, names)
    seen = histograms(graph, sorted(names), rows)
    chosen = {
        how: {name: cut(seen[alike.get(name, name)]) for name in seen}
        for how, cut in _RANGES.items()
        if asked in (how, "best")
    }
    errors = {how: fidelity.error(_quantised(graph, layers, each)) for how, each in chosen.items()}
    how = min(errors, key=errors.__getitem__)
    return how, chosen[how]


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
    levels = _STEPS + 1 if seen.least == 0 or seen.most == 0 else (_STEPS + 1) // 2
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


def _faithful(
    graph: bytes, layers: Sequence[_Layer], ranges: Ranges, fidelity: Fidelity, most: float
) -> tuple[bytes, Sequence[_Layer]]:
    """Return the graph with as many layers quantised as its error allows, and which these are."""
    made = _quantised(graph, layers, ranges)
    if fidelity.error(made) <= most or not 1 < len(layers) <= _MOST_RANKED:
        return made, layers
    alone = [fidelity.error(_quantised(graph, [layer], ranges)) for layer in layers]
    worst = sorted(range(len(layers)), key=lambda place: -alone[place])

    def without(count: int) -> list[_Layer]:
        return [layer for place, layer in enumerate(layers) if place not in worst[:count]]

    low, high = 1, len(layers) // 2
    while low < high:
        middle = (low + high) // 2
        if fidelity.error(_quantised(graph, without(middle), ranges)) <= most:
            high = middle
        else:
            low = middle + 1
    return _quantised(graph, without(low), ranges), without(low)


def _quantised(graph: bytes, layers: Sequence[_Layer], ranges: Ranges) -> bytes:
    model = onnx.load_from_string(graph)
    writer = _Writer(ranges)
    chosen = {layer.node.output[0]: layer for layer in layers}
    leaving = {layer.leaves for layer in layers}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        layer = chosen.get(node.output[0]) if node.output else None
        nodes.extend([node] if layer is None else writer.layer(layer))
        last = nodes[-1]
        for place, name in enumerate(last.output):
            if name in leaving:
                last.output[place] = f"{name}/exact"
                nodes.extend(writer.leaving(name))
    kept = set(reads(onnx.GraphProto(node=nodes, output=model.graph.output)))
    unused = [each.name for each in model.graph.initializer if each.name not in kept]
    rewritten(model, nodes, unused, writer.constants.values())
    return as_bytes(model)


class _Writer:
    """Writes quantised layers; each tensor is rounded once, however many read it."""

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._inputs: dict[str, str] = {}
        self.constants: dict[str, onnx.TensorProto] = {}

    def layer(self, layer: _Layer) -> Iterator[onnx.NodeProto]:
        """Yield what a layer reads, and the layer that reads it."""
        prefix, output = layer.node.input[1], layer.node.output[0]
        if layer.value not in self._inputs:
            self._inputs[layer.value] = f"{layer.value}/rounded"
            yield from self._rounded(layer.value, f"{layer.value}/rounded", layer.value)
        numbers, scales = _round(layer.weights, layer.axis)
        inputs = [self._inputs[layer.value], f"{prefix}/wide"]
        yield self._widened(f"{prefix}/int8", numbers, scales, layer.axis, inputs[1])
        if layer.bias is None:
            yield _like(layer.node, layer.node.op_type, inputs, output)
        elif layer.apart:
            self._constant(f"{prefix}/bias", layer.bias)
            yield _like(layer.node, "MatMul", inputs, f"{output}/product")
            yield helper.make_node("Add", [f"{output}/product", f"{prefix}/bias"], [output], f"Add/{layer.node.name}")
        else:
            # The kernel adds them to its sums, which are in steps of the product of both scales.
            steps = (scales * np.float32(self._scale(layer.value)[0])).astype(np.float32)
            whole = np.clip(np.rint(layer.bias.astype(np.float64) / steps), -(2**31) + 1, 2**31 - 1).astype(np.int32)
            yield self._widened(f"{prefix}/int32", whole, steps, 0, f"{prefix}/bias")
            yield _like(layer.node, layer.node.op_type, [*inputs, f"{prefix}/bias"], output)

    def leaving(self, name: str) -> Iterator[onnx.NodeProto]:
        """Yield what rounds a tensor behind its own node, so that all who read it read it so."""
        self._inputs[name] = name
        return self._rounded(f"{name}/exact", name, name)

    def _rounded(self, value: str, output: str, known: str) -> Iterator[onnx.NodeProto]:
        """Yield what rounds a tensor in the range that is known under a name."""
        scale, zero = self._scale(known)
        names = [f"{known}/scale", f"{known}/zero"]
        self._constant(names[0], np.array(scale, np.float32))
        self._constant(names[1], np.array(zero, np.uint8))
        whole = f"{output}/uint8"
        yield helper.make_node("QuantizeLinear", [value, *names], [whole], f"QuantizeLinear/{output}")
        yield helper.make_node("DequantizeLinear", [whole, *names], [output], f"DequantizeLinear/{output}")

    def _widened(
        self, name: str, numbers: npt.NDArray[np.generic], scales: Weights, axis: int, output: str
    ) -> onnx.NodeProto:
        """Return what makes floats of constants that are whole numbers around 0."""
        names = [name, f"{name}/scales", f"{name}/zeros"]
        for each, values in zip(names, (numbers, scales, np.zeros(len(scales), numbers.dtype)), strict=True):
            self._constant(each, values)
        return helper.make_node("DequantizeLinear", names, [output], f"DequantizeLinear/{output}", axis=axis)

    def _scale(self, name: str) -> tuple[float, int]:
        """Return the size of a step, and which step is 0."""
        least, most = self._ranges[name]
        span = max(most - least, float(np.finfo(np.float32).tiny) * _STEPS)
        scale = float(np.float32(span / _STEPS))
        return scale, int(np.clip(np.rint(-least / scale), 0, _STEPS))

    def _constant(self, name: str, values: npt.NDArray[np.generic]) -> None:
        self.constants[name] = numpy_helper.from_array(values, name)


def _like(node: onnx.NodeProto, operator: str, inputs: Sequence[str], output: str) -> onnx.NodeProto:
    """Return a layer with other inputs. A product's weights are [inputs, outputs] here, and it has no factor."""
    made = helper.make_node(operator, inputs, [output], node.name)
    if operator == "Conv":
        made.attribute.extend(node.attribute)
    return made


def _round(weights: Weights, axis: int) -> tuple[npt.NDArray[np.int8], Weights]:
    """Return weights as whole numbers of 7 bits, and the scales of their outputs."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    largest: Weights = np.abs(weights).max(axis=others, keepdims=True)
    # A column of zeros, or of numbers that have lost their digits, is one of zeros.
    scales = (np.maximum(largest, np.finfo(np.float32).tiny * _LARGEST) / np.float32(_LARGEST)).astype(np.float32)
    numbers = np.clip(np.rint(weights / scales), -_LARGEST, _LARGEST).astype(np.int8)
    return numbers, scales.ravel()


METHOD = Method(quantise_static)
