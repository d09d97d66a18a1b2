from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

LinearGraph = Callable[..., bytes]


@pytest.fixture
def linear_graph() -> LinearGraph:
    """A served graph written by hand: softmax over x @ weights, classes by name."""

    def build(weights: np.ndarray, classes: np.ndarray, logits: str = "logits") -> bytes:
        label_type = helper.np_dtype_to_tensor_dtype(classes.dtype) if classes.dtype.kind == "i" else TensorProto.STRING
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "weights"], [logits]),
                helper.make_node("Softmax", [logits], ["probabilities"], axis=1),
                helper.make_node("ArgMax", ["probabilities"], ["place"], axis=1, keepdims=0),
                helper.make_node("Gather", ["classes", "place"], ["label"], axis=0),
            ],
            "served",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", weights.shape[0]])],
            [
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", weights.shape[1]]),
                helper.make_tensor_value_info("label", label_type, ["batch"]),
            ],
            [
                numpy_helper.from_array(weights.astype(np.float32), "weights"),
                numpy_helper.from_array(classes, "classes"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    return build
