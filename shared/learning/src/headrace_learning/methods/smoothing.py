"""Outliers moved from activations to weights, so that one range fits all channels of an activation.

Xiao, Lin, Seznec, Wu, Demouth and Han, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models" (ICML 2023), section 4: each channel of a product's input is divided by a factor, and the weights that
it meets are multiplied by it. The answer is the same, to rounding. Where they take one power of all channels, factors
here are chosen among several by what rounding is expected to cost: an activation's error is that of one step for all
channels, which meets the weights, a weight's error is that of its output's step, which meets the channels. Products of
one input share its factors, and an input that gains little has none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from headrace_engines.beside import Graph
from onnx import helper, numpy_helper

from headrace_learning.graphs import Columns
from headrace_learning.large import as_graph, folder_of, structure_of
from headrace_learning.methods.observing import Numbers, Observed
from headrace_learning.methods.products import Product, products, reads, rewritten
from headrace_learning.methods.qdq import SEVEN_BITS, STEPS

_POWERS: Final = (0.25, 0.5, 0.75)
_SHARES: Final = (0.5, 0.25, 0.125, 0.0625)
"""To which share of the largest channel the others are left as they are."""
_GAIN: Final = 0.8
"""What an expected error has to become, as a share of what it is."""
_LEAST: Final = 1e-5
"""Of a channel or its weights, beside the largest there is: what is nothing has no factor of its own."""
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Channels:
    """What the channels of a tensor are like, each [channels]."""

    least: Doubles
    most: Doubles
    squares: Doubles
    """Means of them."""

    @property
    def sizes(self) -> Doubles:
        """The largest size of each."""
        found: Doubles = np.maximum(-self.least, self.most)
        return np.maximum(found, max(float(found.max()), _LEAST) * _LEAST)


def smoothed(graph: Graph, rows: Columns, largest: int = SEVEN_BITS) -> Graph | None:
    """Return a graph that answers the same, inputs of its products divided by factors where rounding costs less then.

    `largest` is that of a weight, as `qdq` has it. None where no input gains.
    """
    model, folder = structure_of(graph), folder_of(graph)
    found: dict[str, list[Product]] = defaultdict(list)
    # What a Relu answers is rounded where it is made, before anybody could divide it.
    rectified = {name for node in model.graph.node if node.op_type == "Relu" for name in node.output}
    for product in products(model.graph, folder):
        if product.node.input[0] not in rectified:
            found[product.node.input[0]].append(product)
    constants: list[onnx.TensorProto] = []
    behind: dict[str, onnx.NodeProto] = {}
    replaced: dict[str, onnx.NodeProto] = {}
    for value, channels in _channels(graph, list(found), rows).items():
        factors = _factors(channels, np.concatenate([each.weights for each in found[value]]), largest)
        if factors is None:
            continue
        constants.append(numpy_helper.from_array(1 / factors, f"{value}/inverse"))
        even = f"{value}/even"
        behind[value] = helper.make_node("Mul", [value, f"{value}/inverse"], [even], f"Mul/{even}")
        for each in found[value]:
            name = f"{each.name}/even"
            constants.append(numpy_helper.from_array(np.ascontiguousarray((each.weights * factors).T), name))
            operator, bias = ("Gemm", [each.bias]) if each.bias else ("MatMul", [])
            replaced[each.node.output[0]] = helper.make_node(
                operator, [even, name, *bias], list(each.node.output), each.node.name
            )
    if not behind:
        return None
    nodes = list(_written(model.graph, behind, replaced))
    kept = set(reads(onnx.GraphProto(node=nodes, output=model.graph.output)))
    rewritten(model, nodes, [each.name for each in model.graph.initializer if each.name not in kept], constants)
    return as_graph(model, folder)


def _written(
    graph: onnx.GraphProto, behind: Mapping[str, onnx.NodeProto], replaced: Mapping[str, onnx.NodeProto]
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes in order, each division behind what makes the tensor."""
    yield from (behind[each.name] for each in graph.input if each.name in behind)
    for node in graph.node:
        yield replaced.get(node.output[0], node) if node.output else node
        yield from (behind[name] for name in node.output if name in behind)


def _channels(graph: Graph, names: Sequence[str], rows: Columns) -> dict[str, _Channels]:
    """Return what the channels of some tensors are like, the last axis of each."""
    seen: dict[str, list[tuple[Doubles, ...]]] = defaultdict(list)
    if not names:
        return {}
    for tensors in Observed(graph, names).runs(rows):
        for name, values in tensors.items():
            flat: Numbers = np.where(np.isfinite(values), values, 0).reshape(-1, values.shape[-1])
            seen[name].append((flat.min(axis=0), flat.max(axis=0), np.square(flat, dtype=np.float64).mean(axis=0)))
    found = {}
    for name, parts in seen.items():
        least, most, squares = (np.array(each, np.float64) for each in zip(*parts, strict=True))
        found[name] = _Channels(np.minimum(least.min(axis=0), 0), np.maximum(most.max(axis=0), 0), squares.mean(axis=0))
    return found


def _factors(channels: _Channels, weights: Numbers, largest: int) -> Numbers | None:
    """Return the factors of channels, [channels] float32 above 0, that cost least; None where none gains."""
    columns = np.abs(weights).max(axis=0).astype(np.float64)
    columns = np.maximum(columns, max(float(columns.max()), _LEAST) * _LEAST)
    sizes = channels.sizes
    tried = [sizes**power / columns ** (1 - power) for power in _POWERS]
    tried += [np.maximum(1.0, sizes / (share * sizes.max())) for share in _SHARES]
    costs = [_cost(channels, weights, each, largest) for each in tried]
    best = int(np.argmin(costs))
    if not costs[best] < _GAIN**2 * _cost(channels, weights, np.ones_like(sizes), largest):
        return None
    factors = tried[best]
    even: Numbers = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
    return even


def _cost(channels: _Channels, weights: Numbers, factors: Doubles, largest: int) -> float:
    """Return the square of the error that is expected of products, but for a constant."""
    moved = weights.astype(np.float64) * factors
    step = (float((channels.most / factors).max()) - float((channels.least / factors).min())) / STEPS
    of_weights = np.square(np.abs(moved).max(axis=1) / largest).sum()
    return float(step**2 * np.square(moved).sum() + of_weights * (channels.squares / factors**2).sum())
