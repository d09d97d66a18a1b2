"""Weights of matrix products as int8, a third of their size with their scales; everything else stays as it is.

ONNX Runtime's `MatMulNBits` multiplies them as they are stored. Each 32 weights of an output share a scale, and so do
each 32 activations of a row, which the operator rounds to int8 itself: a row's answer does not depend on the other
rows of its call. Products of fewer than 32 inputs would grow and stay float.

By default the operator widens the weights in each call and is several times slower than float32. With `accuracy_level`
4 it multiplies integers, and its kernels are right on processors without VNNI too.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from headrace_learning.methods.method import NotApplicable, of_graph
from headrace_learning.transform_graphs import RUNTIME_DOMAIN

BLOCK = 32
"""Weights of an output that share a scale."""
_LARGEST = 127
_ZERO = 128
"""How 0 is stored: the operator's weights are unsigned."""
_INTEGERS = 4
"""The `accuracy_level` that multiplies integers."""
_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0}
"""Attributes of a Gemm that is a product and a sum, and nothing else."""

Matrix = npt.NDArray[np.float32]


def quantise_weights(graph: bytes) -> bytes | NotApplicable:
    """Return the graph with the weights of its matrix products as int8.

    Inputs and outputs keep their names, types and shapes. Equal graphs give equal bytes. Not applicable when there is
    no product of 32 inputs or more with constant weights.
    """
    model = onnx.load_from_string(graph)
    weights = dict(_weights(model.graph))
    if not weights:
        return NotApplicable(
            f"weight-only-int8: expected a matrix product (MatMul, Gemm) of at least {BLOCK} inputs with constant "
            "weights of its own, got none"
        )
    constants = [each for each in model.graph.initializer if each.name not in weights]
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        name = "".join(node.input[1:2])
        if name in weights:
            rounded = _constants(name, weights[name])
            constants.extend(rounded)
            nodes.extend(_nodes(node, weights[name].shape, [each.name for each in rounded]))
        else:
            nodes.append(node)
    rewritten = onnx.GraphProto(node=nodes, initializer=constants)
    for part in ("node", "initializer"):
        model.graph.ClearField(part)
    model.graph.MergeFrom(rewritten)
    if not any(each.domain == RUNTIME_DOMAIN for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(RUNTIME_DOMAIN, 1))
    return bytes(model.SerializeToString(deterministic=True))


def round_weights(weights: Matrix) -> tuple[npt.NDArray[np.uint8], Matrix]:
    """Return weights, [outputs, inputs], as whole numbers around 128, [outputs, blocks, 32], and scales of the blocks.

    A weight is its number less 128, times the scale of its block, to half a scale. Inputs are filled up with zeros to
    whole blocks.
    """
    blocks = np.pad(weights, ((0, 0), (0, -weights.shape[1] % BLOCK))).reshape(len(weights), -1, BLOCK)
    scales = np.abs(blocks).max(axis=2) / np.float32(_LARGEST)
    steps = np.rint(blocks / np.where(scales > 0, scales, 1)[..., np.newaxis])
    # A scale near the least number that there is has lost digits: steps of it could be more than fit.
    return (np.clip(steps, -_LARGEST, _LARGEST) + _ZERO).astype(np.uint8), scales


def _weights(graph: onnx.GraphProto) -> Iterator[tuple[str, Matrix]]:
    """Yield the weights that become int8 by name: [outputs, inputs]. What another node reads too stays as it is."""
    constants = {each.name: each for each in graph.initializer if each.data_type == TensorProto.FLOAT}
    readers = Counter(_read(graph))
    for node in graph.node:
        name = "".join(node.input[1:2])
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        transposed = attributes.pop("transB", 0)
        if (
            name in constants
            and readers[name] == 1
            and node.op_type in {"MatMul", "Gemm"}
            and attributes.items() <= _PLAIN.items()
            and len(constants[name].dims) == 2
        ):
            values = numpy_helper.to_array(constants[name])
            weights = values if transposed else values.T
            if weights.shape[1] >= BLOCK and np.isfinite(weights).all():
                yield name, weights


def _read(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield each name that nodes read, those within nodes too, or that is an output."""
    yield from (each.name for each in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for each in (attribute.g, *attribute.graphs):
                yield from _read(each)


def _constants(name: str, weights: Matrix) -> list[onnx.TensorProto]:
    numbers, scales = round_weights(weights)
    return [
        numpy_helper.from_array(numbers, f"{name}/int8"),
        numpy_helper.from_array(scales.ravel(), f"{name}/scales"),
    ]


def _nodes(node: onnx.NodeProto, shape: tuple[int, ...], constants: list[str]) -> Iterator[onnx.NodeProto]:
    """Yield what computes what a product does; where it adds a bias, a sum behind it."""
    bias = [name for name in node.input[2:] if name]
    product = f"{node.output[0]}/product" if bias else node.output[0]
    yield helper.make_node(
        "MatMulNBits",
        [node.input[0], *constants],
        [product],
        f"MatMulNBits/{node.name}",
        domain=RUNTIME_DOMAIN,
        N=shape[0],
        K=shape[1],
        bits=8,
        block_size=BLOCK,
        accuracy_level=_INTEGERS,
    )
    if bias:
        yield helper.make_node("Add", [product, *bias], node.output, f"Add/{node.name}")


METHOD = of_graph(quantise_weights)
