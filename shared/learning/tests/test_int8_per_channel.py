"""Graphs with int8 weights by channel compute what numpy does of the widened weights; convolutions are among them."""

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from headrace_learning.evaluation import open_graph
from headrace_learning.methods import int8_per_channel
from headrace_learning.methods.int8_per_channel import round_channels
from headrace_learning.methods.method import NotApplicable
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[np.float32]
RANDOM = np.random.default_rng(7)


def graph_of(node: onnx.NodeProto, weight: Array, shape: list[int]) -> bytes:
    """Return a graph of one node from x, [batch, *shape], to y."""
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


CASES: dict[str, tuple[onnx.NodeProto, tuple[int, ...], int, list[int]]] = {
    "MatMul": (helper.make_node("MatMul", ["x", "weight"], ["y"]), (40, 24), 1, [40]),
    "Gemm": (helper.make_node("Gemm", ["x", "weight"], ["y"], alpha=0.5), (40, 24), 1, [40]),
    "Gemm of rows": (helper.make_node("Gemm", ["x", "weight"], ["y"], transB=1), (24, 40), 0, [40]),
    "Conv": (helper.make_node("Conv", ["x", "weight"], ["y"], pads=[1, 1, 1, 1]), (8, 3, 3, 3), 0, [3, 6, 5]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_graph_answers_as_with_the_widened_weights(case: str) -> None:
    node, shape, axis, row = CASES[case]
    weight = RANDOM.normal(size=shape).astype(np.float32)
    # An output with large weights takes no digits from the others.
    large = np.moveaxis(weight, axis, 0)
    large[0] *= 1e4
    rows = RANDOM.normal(size=(9, *row)).astype(np.float32)
    numbers, scales = round_channels(weight, axis)

    made = int8_per_channel.quantise_channels(graph_of(node, weight, row))

    assert isinstance(made, bytes)
    (answered,) = open_graph(made).run({"x": rows}, ["y"])
    (expected,) = open_graph(graph_of(node, numbers * scales, row)).run({"x": rows}, ["y"])
    np.testing.assert_array_equal(answered, expected)
    kept = {each.name: each for each in onnx.load_from_string(made).graph.initializer}
    assert {name: each.data_type for name, each in kept.items()} == {
        "weight/int8": TensorProto.INT8,
        "weight/scales": TensorProto.FLOAT,
    }
    assert (np.abs(numbers * scales - weight) <= 0.5001 * scales).all()


def test_weights_are_rounded_to_half_a_step_of_their_output() -> None:
    least = np.float32(1.4e-45)  # the least number that there is: its scale is none
    weights = np.array([[127.0, -1.4, 0.6], [0.0, 0.0, 0.0], [3 * least, -200 * least, 0.0]], np.float32)

    numbers, scales = round_channels(weights, 0)

    assert numbers.tolist() == [[127, -1, 1], [0, 0, 0], [2, -100, 0]]
    assert scales.ravel().tolist() == [1.0, 0.0, 2 * least]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_weights_that_are_not_finite_stay_as_they_are(value: float) -> None:
    node, shape, _, row = CASES["MatMul"]

    made = int8_per_channel.quantise_channels(graph_of(node, np.full(shape, value, np.float32), row))

    assert made == NotApplicable(
        "int8-per-channel: expected matrix products or convolutions with constant, finite weights, got none"
    )
