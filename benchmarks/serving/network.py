"""The networks that are served; random weights.

The small one has 64 inputs, layers of 128 and 64, and 10 classes. The slow one takes about 10 ms for a row.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

MODEL = "digits"
SIZES = (64, 128, 64, 10)
SLOW = "slow"
LAYERS, WIDTH = 200, 256
"""Layers of the slow network, and the numbers in each for one pixel."""


def network() -> bytes:
    """Return the ONNX graph: pixels [batch, 8, 8] to probabilities [batch, 10] and label [batch]."""
    random = np.random.default_rng(0)
    constants = [numpy_helper.from_array(np.array([-1, SIZES[0]]), "flat")]
    nodes = [helper.make_node("Reshape", ["pixels", "flat"], ["layer0"])]
    for place, (width, next_width) in enumerate(pairwise(SIZES)):
        weights = random.normal(0, 0.1, (width, next_width)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"weights{place}"))
        is_last = place == len(SIZES) - 2
        product = "logits" if is_last else f"product{place}"
        nodes.append(helper.make_node("MatMul", [f"layer{place}", f"weights{place}"], [product]))
        if not is_last:
            nodes.append(helper.make_node("Relu", [product], [f"layer{place + 1}"]))
    return _model(nodes, constants)


def slow_network() -> bytes:
    """Return an ONNX graph with the inputs and outputs of `network`: each pixel goes through many layers."""
    random = np.random.default_rng(0)
    spread = np.ones((1, WIDTH), np.float32)
    layer = random.normal(0, np.sqrt(2 / WIDTH), (WIDTH, WIDTH)).astype(np.float32)
    last = random.normal(0, 0.1, (WIDTH, SIZES[-1])).astype(np.float32)
    constants = [
        numpy_helper.from_array(np.array([-1, SIZES[0], 1]), "apart"),
        *(numpy_helper.from_array(each, name) for name, each in (("spread", spread), ("layer", layer), ("last", last))),
    ]
    nodes = [
        helper.make_node("Reshape", ["pixels", "apart"], ["pixel"]),
        helper.make_node("MatMul", ["pixel", "spread"], ["value0"]),
    ]
    for place in range(LAYERS):
        nodes.append(helper.make_node("MatMul", [f"value{place}", "layer"], [f"product{place}"]))
        nodes.append(helper.make_node("Relu", [f"product{place}"], [f"value{place + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"value{LAYERS}"], ["mean"], axes=[1], keepdims=0))
    nodes.append(helper.make_node("MatMul", ["mean", "last"], ["logits"]))
    return _model(nodes, constants)


def _model(nodes: list[NodeProto], constants: list[TensorProto]) -> bytes:
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    nodes.append(helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0))
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 8, 8])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", SIZES[-1]]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        ],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())
