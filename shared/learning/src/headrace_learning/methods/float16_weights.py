"""Weights of matrix products and convolutions as float16, half their size; everything is computed in float32.

ONNX Runtime widens them once, when the graph is loaded: answers take as long as before, and files are smaller.
"""

import numpy as np
import onnx
from headrace_engines.beside import Graph
from onnx import TensorProto, helper, numpy_helper

from headrace_learning.large import as_graph, folder_of, structure_of, values_of
from headrace_learning.methods.method import NotApplicable, of_graph

_OPERATORS = {"MatMul", "Gemm", "Conv"}
_LARGEST = float(np.finfo(np.float16).max)


def halve_weights(graph: Graph) -> Graph | NotApplicable:
    """Return the graph with its weights as float16."""
    model = structure_of(graph)
    used = {name for node in model.graph.node if node.op_type in _OPERATORS for name in node.input[1:2]}
    weights = [each for each in model.graph.initializer if each.name in used and each.data_type == TensorProto.FLOAT]
    if not weights:
        return NotApplicable(
            "float16-weights: expected matrix products or convolutions with constant weights, got none"
        )
    for weight in weights:
        values = values_of(weight, folder_of(graph))
        largest = float(np.abs(values).max())
        if not largest <= _LARGEST:
            return NotApplicable(f"float16-weights: expected weights up to {_LARGEST:g}, got one of {largest:g}")
        name, narrow = weight.name, f"{weight.name}/float16"
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), narrow))
        model.graph.node.insert(0, helper.make_node("Cast", [narrow], [name], f"Cast/{name}", to=TensorProto.FLOAT))
    made = as_graph(model, folder_of(graph))
    onnx.checker.check_model(model if isinstance(made, bytes) else str(made), full_check=True)
    return made


METHOD = of_graph(halve_weights, large=True)
