"""Weights of matrix products as int8 or int4, a third or a sixth of their size with their scales.

ONNX Runtime's `MatMulNBits` multiplies them as they are stored. Each 32 weights of an output share a scale, and so do
each 32 activations of a row, which the operator rounds to int8 itself: a row's answer does not depend on the other
rows of its call. Products of fewer than 32 inputs would grow and stay float.

By default the operator widens the weights in each call and is several times slower than float32. With `accuracy_level`
4 it multiplies integers, and its kernels are right on processors without VNNI too.

Of 4 bits a scale is the one of some, on both sides of 0, that errs least in the sum of squares over its 32 weights.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from headrace_engines.beside import Graph
from onnx import helper, numpy_helper

from headrace_learning.large import as_graph, folder_of, structure_of
from headrace_learning.methods.method import NotApplicable, of_graph
from headrace_learning.methods.products import Matrix, Product, import_domain, products, rewritten
from headrace_learning.transform_graphs import RUNTIME_DOMAIN

BLOCK: Final = 32
"""Weights of an output that share a scale."""
_LARGEST: Final = 127
_ZERO: Final = 128
"""How 0 is stored: the operator's weights are unsigned."""
_ZERO4: Final = 8
_FACTORS4: Final = tuple(sign * step / 20 for sign in (1, -1) for step in range(20, 11, -1))
"""Parts of the largest weight that are tried as what the lowest step, -8, stands for: of both signs, for it has no
counterpart above."""
_AT_ONCE: Final = 2**24
"""Weights that are rounded at once."""
_INTEGERS: Final = 4
"""The `accuracy_level` that multiplies integers."""
Numbers = npt.NDArray[np.uint8]


def round_weights(weights: Matrix) -> tuple[Numbers, Matrix]:
    """Return weights, [outputs, inputs], as whole numbers around 128, [outputs, blocks, 32], and scales of the blocks.

    A weight is its number less 128, times the scale of its block, to half a scale. Inputs are filled up with zeros to
    whole blocks.
    """
    blocks = _blocks(weights)
    scales = np.abs(blocks).max(axis=2) / np.float32(_LARGEST)
    steps = np.rint(blocks / np.where(scales > 0, scales, 1)[..., np.newaxis])
    # A scale near the least number that there is has lost digits: steps of it could be more than fit.
    return (np.clip(steps, -_LARGEST, _LARGEST) + _ZERO).astype(np.uint8), scales


def round_weights4(weights: Matrix) -> tuple[Numbers, Matrix]:
    """Return weights, [outputs, inputs], as whole numbers from 0 to 15 around 8, [outputs, blocks, 32], and scales."""
    blocks = _blocks(weights)
    largest = np.abs(blocks).max(axis=2)
    scales = np.zeros_like(largest)
    numbers: Numbers = np.full(blocks.shape, _ZERO4, np.uint8)
    least = np.full(largest.shape, np.inf, np.float32)
    for factor in _FACTORS4:
        tried = largest * np.float32(factor / _ZERO4)
        steps = np.clip(np.rint(blocks / np.where(tried != 0, tried, 1)[..., np.newaxis]), -_ZERO4, _ZERO4 - 1)
        errors = np.square(steps * tried[..., np.newaxis] - blocks).sum(axis=2)
        better = errors < least
        least, scales = np.where(better, errors, least), np.where(better, tried, scales)
        numbers[better] = (steps[better] + _ZERO4).astype(np.uint8)
    return numbers, scales


def _blocks(weights: Matrix) -> Matrix:
    return np.pad(weights, ((0, 0), (0, -weights.shape[1] % BLOCK))).reshape(len(weights), -1, BLOCK)


def _packed4(numbers: Numbers) -> Numbers:
    """Return two numbers of 4 bits in each byte, the first one in its lower half."""
    packed: Numbers = (numbers[..., ::2] + 16 * numbers[..., 1::2]).astype(np.uint8)
    return packed


@dataclass(frozen=True)
class _Width:
    """How weights of so many bits are rounded, and laid out as the operator takes them."""

    round: Callable[[Matrix], tuple[Numbers, Matrix]]
    stored: Callable[[Numbers], Numbers]


_WIDTHS: Final[Mapping[int, _Width]] = {
    8: _Width(round_weights, lambda numbers: numbers),
    4: _Width(round_weights4, _packed4),
}


def quantise_weights(graph: Graph, bits: int = 8) -> Graph | NotApplicable:
    """Return the graph with the weights of its matrix products as whole numbers of 8 or 4 bits.

    Inputs and outputs keep their names, types and shapes. Equal graphs give equal bytes. Not applicable when there is
    no product of 32 inputs or more with constant weights.
    """
    model = structure_of(graph)
    found = {each.name: each for each in products(model.graph, folder_of(graph)) if each.weights.shape[1] >= BLOCK}
    if not found:
        return NotApplicable(
            f"weight-only-int{bits}: expected a matrix product (MatMul, Gemm) of at least {BLOCK} inputs with constant "
            "weights of its own, got none"
        )
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        product = found.get("".join(node.input[1:2]))
        if product is None:
            nodes.append(node)
            continue
        numbers, scales = _rounded(product.weights, _WIDTHS[bits])
        names = [f"{product.name}/int{bits}", f"{product.name}/scales"]
        values: list[npt.NDArray[Any]] = [_WIDTHS[bits].stored(numbers), scales.ravel()]
        constants += [numpy_helper.from_array(each, name) for each, name in zip(values, names, strict=True)]
        nodes += _nodes(product, bits, names)
    rewritten(model, nodes, found, constants)
    import_domain(model, RUNTIME_DOMAIN)
    return as_graph(model, folder_of(graph))


def _rounded(weights: Matrix, width: _Width) -> tuple[Numbers, Matrix]:
    """Return what a width makes of weights, of some outputs after the others: it takes memory beside them."""
    step = max(1, _AT_ONCE // weights.shape[1])
    parts = [width.round(weights[start : start + step]) for start in range(0, len(weights), step)]
    numbers, scales = (np.concatenate(each) for each in zip(*parts, strict=True))
    return numbers, scales


def _nodes(found: Product, bits: int, constants: list[str]) -> Iterator[onnx.NodeProto]:
    """Yield what computes what a product does; where it adds a bias, a sum behind it."""
    node, outputs = found.node, found.weights.shape
    product = f"{node.output[0]}/product" if found.bias else node.output[0]
    yield helper.make_node(
        "MatMulNBits",
        [node.input[0], *constants],
        [product],
        f"MatMulNBits/{node.name}",
        domain=RUNTIME_DOMAIN,
        N=outputs[0],
        K=outputs[1],
        bits=bits,
        block_size=BLOCK,
        accuracy_level=_INTEGERS,
    )
    if found.bias:
        yield helper.make_node("Add", [product, found.bias], node.output, f"Add/{node.name}")


INT8: Final = of_graph(quantise_weights, large=True)
INT4: Final = of_graph(partial(quantise_weights, bits=4), large=True)
