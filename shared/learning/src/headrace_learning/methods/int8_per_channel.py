"""Weights of matrix products and convolutions as int8, a quarter of their size; everything is computed in float32.

All weights of an output share a scale, as in Krishnamoorthi, "Quantizing deep convolutional networks for efficient
inference" (2018), section 3.1.2: symmetric, by channel. ONNX Runtime widens them once, when the graph is loaded:
answers take as long as before, and files are smaller.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
from headrace_engines.beside import Graph
from onnx import TensorProto, helper, numpy_helper

from headrace_learning.large import as_graph, folder_of, structure_of, values_of
from headrace_learning.methods.method import NotApplicable, of_graph

_LARGEST = 127

Weights = npt.NDArray[np.float32]


def quantise_channels(graph: Graph) -> Graph | NotApplicable:
    """Return the graph with the weights of its matrix products and convolutions as int8.

    Inputs and outputs keep their names, types and shapes. Equal graphs give equal bytes. Not applicable when there are
    none that are constant and finite.
    """
    model = structure_of(graph)
    axes = dict(_axes(model.graph))
    constants = {each.name: each for each in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for name in [each for each in constants if each in axes]:
        values = values_of(constants[name], folder_of(graph))
        if values.ndim < 2 or not values.size or not np.isfinite(values).all():
            continue
        numbers, scales = round_channels(values, axes[name])
        constants[name].CopyFrom(numpy_helper.from_array(numbers, f"{name}/int8"))
        model.graph.initializer.append(numpy_helper.from_array(scales, f"{name}/scales"))
        wide = f"{name}/steps"
        nodes.append(helper.make_node("Cast", [f"{name}/int8"], [wide], f"Cast/{name}", to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [wide, f"{name}/scales"], [name], f"Mul/{name}"))
    if not nodes:
        return NotApplicable(
            "int8-per-channel: expected matrix products or convolutions with constant, finite weights, got none"
        )
    nodes.extend(model.graph.node)
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    return as_graph(model, folder_of(graph))


def round_channels(weights: Weights, axis: int) -> tuple[npt.NDArray[np.int8], Weights]:
    """Return weights as whole numbers of their shape, and scales: one for each output, which are along `axis`.

    A weight is its number times the scale, to half a scale; scales are of a shape that multiplies with the weights.
    """
    others = tuple(each for each in range(weights.ndim) if each != axis % weights.ndim)
    scales = np.abs(weights).max(axis=others, keepdims=True) / np.float32(_LARGEST)
    steps = np.rint(weights / np.where(scales > 0, scales, 1))
    # A scale near the least number that there is has lost digits: steps of it could be more than fit.
    return np.clip(steps, -_LARGEST, _LARGEST).astype(np.int8), scales


def _axes(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """Yield the float32 constants that nodes multiply with by name, and the axis along which their outputs lie."""
    constants = {each.name for each in graph.initializer if each.data_type == TensorProto.FLOAT}
    for node in graph.node:
        name = "".join(node.input[1:2])
        if name not in constants or node.op_type not in {"MatMul", "Gemm", "Conv"}:
            continue
        rows = any(each.name == "transB" and each.i for each in node.attribute)
        yield name, 0 if rows or node.op_type == "Conv" else -1


METHOD = of_graph(quantise_channels, large=True)
