"""Quantised layers as they are written: `QuantizeLinear` and `DequantizeLinear` around products and convolutions.

ONNX Runtime joins these to integer kernels. Where ranges come from is no matter of this module: `int8-static` looks at
rows, and `qat` learns within them. One writer, so that what is learned is what is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from headrace_engines.beside import Graph
from onnx import TensorProto, helper, numpy_helper

from headrace_learning.large import as_graph, folder_of, structure_of, values_of
from headrace_learning.methods.products import products, reads, rewritten

SEVEN_BITS: Final = 64
"""The largest number of a weight of 7 bits: two products with uint8 fit 16 bits."""
EIGHT_BITS: Final = 127
"""The same of 8 bits."""
STEPS: Final = 255
"""Of an activation."""
_OPSET: Final = 13
"""From this on scales may be those of an axis."""
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
class Layer:
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


def layers_of(given: Graph) -> list[Layer]:
    """Return what can be quantised, in the graph's order."""
    model, folder = structure_of(given), folder_of(given)
    graph = model.graph
    if not any(each.domain == "" and each.version >= _OPSET for each in model.opset_import):
        return []
    constants = {each.name: each for each in graph.initializer if each.data_type == TensorProto.FLOAT}
    matrices = {each.name: each for each in products(graph, folder)}
    readers = Counter(reads(graph))
    consumers = {name: node for node in graph.node for name in node.input}
    found = []
    for node in graph.node:
        name, bias = "".join(node.input[1:2]), "".join(node.input[2:3])
        if name in matrices and (not bias or bias in constants):
            axis, weights = 1, matrices[name].weights.T
        elif node.op_type == "Conv" and name in constants and readers[name] == 1 and (not bias or bias in constants):
            axis, weights = 0, values_of(constants[name], folder)
        else:
            continue
        after = consumers.get(node.output[0])
        leaves = node.output[0] if node.op_type == "Conv" else ""
        if after is not None and after.op_type == "Relu" and readers[node.output[0]] == 1:
            leaves = after.output[0]
        apart = node.op_type == "Gemm" and after is not None and after.op_type in _JOINED
        values = values_of(constants[bias], folder).ravel() if bias else None
        if np.isfinite(weights).all() and (values is None or len(values) == weights.shape[axis]):
            found.append(Layer(node, weights, axis, values, node.input[0], leaves, apart))
    return found


def steps_of(least: float, most: float) -> tuple[float, int]:
    """Return the size of a step of a range, and which step is 0."""
    span = max(most - least, float(np.finfo(np.float32).tiny) * STEPS)
    scale = float(np.float32(span / STEPS))
    return scale, int(np.clip(np.rint(-least / scale), 0, STEPS))


def quantised(graph: Graph, layers: Sequence[Layer], ranges: Ranges, largest: int = SEVEN_BITS) -> Graph:
    """Return a graph with some layers quantised; `largest` is that of a weight."""
    model = structure_of(graph)
    writer = _Writer(ranges, largest)
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
    return as_graph(model, folder_of(graph))


class _Writer:
    """Writes quantised layers; each tensor is rounded once, however many read it."""

    def __init__(self, ranges: Ranges, largest: int) -> None:
        self._ranges = ranges
        self._largest = largest
        self._inputs: dict[str, str] = {}
        self.constants: dict[str, onnx.TensorProto] = {}

    def layer(self, layer: Layer) -> Iterator[onnx.NodeProto]:
        """Yield what a layer reads, and the layer that reads it."""
        prefix, output = layer.node.input[1], layer.node.output[0]
        if layer.value not in self._inputs:
            self._inputs[layer.value] = f"{layer.value}/rounded"
            yield from self._rounded(layer.value, f"{layer.value}/rounded", layer.value)
        numbers, scales = _round(layer.weights, layer.axis, self._largest)
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
        return steps_of(*self._ranges[name])

    def _constant(self, name: str, values: npt.NDArray[np.generic]) -> None:
        self.constants[name] = numpy_helper.from_array(values, name)


def _like(node: onnx.NodeProto, operator: str, inputs: Sequence[str], output: str) -> onnx.NodeProto:
    """Return a layer with other inputs. A product's weights are [inputs, outputs] here, and it has no factor."""
    made = helper.make_node(operator, inputs, [output], node.name)
    if operator == "Conv":
        made.attribute.extend(node.attribute)
    return made


def _round(weights: Weights, axis: int, most: int) -> tuple[npt.NDArray[np.int8], Weights]:
    """Return weights as whole numbers up to `most`, and the scales of their outputs."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    largest: Weights = np.abs(weights).max(axis=others, keepdims=True)
    # A column of zeros, or of numbers that have lost their digits, is one of zeros.
    scales = (np.maximum(largest, np.finfo(np.float32).tiny * most) / np.float32(most)).astype(np.float32)
    numbers = np.clip(np.rint(weights / scales), -most, most).astype(np.int8)
    return numbers, scales.ravel()
