"""Outliers that move from activations to weights: the same answers in float, nearer ones in whole numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from headrace_learning.evaluation import open_graph
from headrace_learning.methods import METHODS
from headrace_learning.methods.calibration import of_columns
from headrace_learning.methods.method import Made, Source
from headrace_learning.methods.smoothing import smoothed
from onnx import TensorProto, helper, numpy_helper

from .variant_sections import section

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(4)
EVEN = RANDOM.normal(size=(200, 24)).astype(np.float32)
UNEVEN = EVEN * np.where(np.arange(24) == 5, np.float32(60), np.float32(1))
WEIGHTS = {name: RANDOM.normal(size=(24, 16)).astype(np.float32) for name in ("one", "two")}


def graph_of(*nodes: onnx.NodeProto, **weights: Array) -> bytes:
    """Return a graph from x to y, [batch, 24] to [batch, 16]."""
    graph = helper.make_graph(
        list(nodes),
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [numpy_helper.from_array(values, name) for name, values in (WEIGHTS | weights).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


BOTH = graph_of(
    helper.make_node("MatMul", ["x", "one"], ["p"], "one"),
    helper.make_node("MatMul", ["x", "two"], ["q"], "two"),
    helper.make_node("Mul", ["p", "q"], ["y"]),
)


def answers(graph: bytes, rows: Array) -> Array:
    (found,) = open_graph(graph).run({"x": rows}, ["y"])
    return found.astype(np.float64)


def test_products_of_one_input_share_its_factors_and_answer_the_same() -> None:
    made = smoothed(BOTH, {"x": UNEVEN})
    assert isinstance(made, bytes)
    nodes = onnx.load_from_string(made).graph.node
    assert [node.op_type for node in nodes].count("Mul") == 2  # that of the graph, and one for both products
    np.testing.assert_allclose(answers(made, UNEVEN), answers(BOTH, UNEVEN), rtol=1e-3, atol=1e-2)


def test_channels_alike_have_no_factors() -> None:
    assert smoothed(BOTH, {"x": EVEN}) is None


def test_what_a_rectifier_answers_stays() -> None:
    rectified = graph_of(helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MatMul", ["r", "one"], ["y"]))
    assert smoothed(rectified, {"x": UNEVEN}) is None


def test_whole_numbers_err_less_and_it_is_told() -> None:
    # What the outlier adds to an answer is small: all the rest is what counts, and it has few steps.
    weights = WEIGHTS["one"] / np.where(np.arange(24) == 5, np.float32(60), np.float32(1))[:, np.newaxis]
    product = graph_of(helper.make_node("MatMul", ["x", "one"], ["y"], "one"), one=weights)
    expected = answers(product, UNEVEN)
    source, errors = Source(product, of_columns({"x": UNEVEN})), {}
    for limit in (10.0, 0.03):
        made = METHODS["int8-static"].make(source, section("int8-static", calibrate="minmax", error=limit))
        assert isinstance(made, Made)
        assert isinstance(made.graph, bytes)
        errors[limit] = np.linalg.norm(answers(made.graph, UNEVEN) - expected) / np.linalg.norm(expected)
        assert made.told.get("outliers") == (None if limit > 1 else "moved to weights")
    assert errors[0.03] < 0.3 * errors[10.0]
