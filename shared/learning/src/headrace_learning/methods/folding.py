"""Normalisation by the batch, folded into the convolution before it: in evaluation it is a factor and a sum."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from headrace_engines.beside import Graph
from onnx import TensorProto, helper, numpy_helper

from headrace_learning.large import as_graph, folder_of, structure_of, values_of
from headrace_learning.methods.products import reads, rewritten

_EPSILON = 1e-5
"""What the operator adds to variances where it does not say."""


def fold_normalisation(graph: Graph) -> Graph:
    """Return a graph that answers the same to rounding, without `BatchNormalization` behind a `Conv`.

    It stays where others read what is between the two, or the numbers of either are no constants.
    """
    model, folder = structure_of(graph), folder_of(graph)
    constants = {each.name: each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT}
    readers = Counter(reads(model.graph))
    convolutions = {node.output[0]: node for node in model.graph.node if node.op_type == "Conv"}
    nodes: list[onnx.NodeProto] = []
    new: list[onnx.TensorProto] = []
    for node in model.graph.node:
        before = convolutions.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        known = before is not None and all(name in constants for name in (*before.input[1:], *node.input[1:]))
        if before is None or not known or readers[before.output[0]] > 1 or readers[before.input[1]] > 1:
            nodes.append(node)
            continue
        weights, *bias = (values_of(constants[name], folder).astype(np.float64) for name in before.input[1:])
        scale, shift, mean, variance = (values_of(constants[name], folder) for name in node.input[1:])
        epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), _EPSILON)
        factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        moved = ((bias[0] if bias else 0.0) - mean) * factor + shift
        names = [f"{before.input[1]}/folded", f"{before.input[1]}/shift"]
        folded = weights * factor.reshape(-1, *[1] * (weights.ndim - 1))
        new += [
            numpy_helper.from_array(each.astype(np.float32), name)
            for each, name in zip((folded, moved), names, strict=True)
        ]
        joined = helper.make_node("Conv", [before.input[0], *names], [node.output[0]], before.name)
        joined.attribute.extend(before.attribute)
        nodes[next(place for place, each in enumerate(nodes) if each is before)] = joined
    kept = set(reads(onnx.GraphProto(node=nodes, output=model.graph.output)))
    rewritten(model, nodes, [name for name in constants if name not in kept], new)
    return as_graph(model, folder)
