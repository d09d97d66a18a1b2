"""Graphs with int8 weights compute what numpy does, and products that cannot be made smaller are left alone."""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from headrace_learning.evaluation import open_graph
from headrace_learning.large import whole
from headrace_learning.methods import weight_only
from headrace_learning.methods.method import NotApplicable
from headrace_learning.methods.weight_only import BLOCK, round_weights
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[np.float32]
RANDOM = np.random.default_rng(11)


def made_of(nodes: list[onnx.NodeProto], **constants: Array) -> bytes:
    """Return a graph from x, [batch, inputs], to y."""
    shape = ["batch", constants["weight"].shape[0]]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "outputs"])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def quantised(graph: bytes) -> bytes | NotApplicable:
    made = weight_only.quantise_weights(graph)
    return made if isinstance(made, NotApplicable) else whole(made)


def operators(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


def answers(graph: bytes, rows: Array) -> Array:
    (found,) = open_graph(graph).run({"x": rows}, ["y"])
    return found


def widened(numbers: npt.NDArray[np.uint8], scales: Array, inputs: int) -> npt.NDArray[np.float64]:
    steps = numbers.astype(np.float64) - 128
    return (steps * scales[..., np.newaxis]).reshape(len(numbers), -1)[:, :inputs]


def rounded_rows(rows: Array) -> npt.NDArray[np.float64]:
    """Round activations as the operator does: each 32 of a row to 127 steps of their largest."""
    blocks = np.pad(rows, ((0, 0), (0, -rows.shape[1] % BLOCK))).reshape(len(rows), -1, BLOCK).astype(np.float64)
    scales = np.abs(blocks).max(axis=2, keepdims=True) / 127
    rounded: npt.NDArray[np.float64] = np.rint(blocks / np.where(scales > 0, scales, 1)) * scales
    return rounded.reshape(len(rows), -1)[:, : rows.shape[1]]


@pytest.mark.parametrize("inputs", [32, 100, 1000])
@pytest.mark.parametrize("operator", ["MatMul", "Gemm", "Gemm of rows"])
def test_a_product_is_what_numpy_makes_of_the_same_numbers(operator: str, inputs: int) -> None:
    weight, bias = RANDOM.normal(size=(inputs, 24)).astype(np.float32), RANDOM.normal(size=24).astype(np.float32)
    if operator == "MatMul":
        nodes = [helper.make_node("MatMul", ["x", "weight"], ["p"]), helper.make_node("Add", ["p", "bias"], ["y"])]
    elif operator == "Gemm":
        nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"])]
    else:
        nodes = [helper.make_node("Gemm", ["x", "columns", "bias"], ["y"], transB=1)]
    columns = {"columns": np.ascontiguousarray(weight.T)} if operator == "Gemm of rows" else {}
    rows = (3 * RANDOM.normal(size=(17, inputs))).astype(np.float32)

    graph = quantised(made_of(nodes, weight=weight, bias=bias, **columns))

    assert isinstance(graph, bytes)
    assert operators(graph) == {"MatMulNBits": 1, "Add": 1}
    expected = rounded_rows(rows) @ widened(*round_weights(weight.T), inputs).T + bias
    assert answers(graph, rows) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_row_gets_the_same_answer_alone_as_among_others() -> None:
    weight = RANDOM.normal(size=(100, 24)).astype(np.float32)
    rows = np.concatenate([RANDOM.normal(size=(40, 100)), np.full((1, 100), 1e6)]).astype(np.float32)

    graph = quantised(made_of([helper.make_node("MatMul", ["x", "weight"], ["y"])], weight=weight))

    assert isinstance(graph, bytes)
    alone = np.concatenate([answers(graph, row[np.newaxis]) for row in rows])
    assert answers(graph, rows) == pytest.approx(alone, rel=1e-5, abs=1e-5)


def test_weights_are_rounded_to_half_a_step_of_their_block() -> None:
    weights = np.zeros((4, 64), dtype=np.float32)
    weights[0, :4] = [127, -1.4, 0.6, -127]
    weights[1, 40] = -12.7
    weights[2] = 1.4e-45 * np.arange(64) * 3  # the least numbers that there are
    numbers, scales = round_weights(weights)

    assert numbers[0, 0, :4].tolist() == [255, 127, 129, 1]
    assert scales[0].tolist() == [1, 0]
    assert numbers[1, 1, 8] == 1
    assert scales[1].tolist() == [0, np.float32(12.7) / np.float32(127)]
    assert (numbers[3] == 128).all()
    assert widened(numbers, scales, 64)[2] == pytest.approx(weights[2], rel=0, abs=1e-43)


def _gemm(**attributes: Any) -> list[onnx.NodeProto]:
    return [helper.make_node("Gemm", ["x", "weight"], ["y"], **attributes)]


def _within() -> list[onnx.NodeProto]:
    """Return a product, and a node whose inner graph reads the same weights."""
    inner = helper.make_graph(
        [helper.make_node("Identity", ["weight"], ["inner"])],
        "inner",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    return [
        helper.make_node("MatMul", ["x", "weight"], ["p"]),
        helper.make_node("If", ["yes"], ["w"], then_branch=inner, else_branch=inner),
        helper.make_node("Add", ["p", "w"], ["y"]),
    ]


SQUARE = RANDOM.normal(size=(32, 32)).astype(np.float32)
LEFT_ALONE: dict[str, tuple[list[onnx.NodeProto], dict[str, Array]]] = {
    "few inputs": (_gemm(), {"weight": SQUARE[:31]}),
    "a factor": (_gemm(alpha=0.5), {"weight": SQUARE}),
    "a vector": ([helper.make_node("MatMul", ["x", "weight"], ["y"])], {"weight": SQUARE[0]}),
    "weights that are infinite": (_gemm(), {"weight": np.full((32, 32), np.inf, dtype=np.float32)}),
    "weights that are read twice": (
        [helper.make_node("Add", ["x", "weight"], ["s"]), helper.make_node("MatMul", ["s", "weight"], ["y"])],
        {"weight": SQUARE},
    ),
    "weights that an inner graph reads": (_within(), {"weight": SQUARE, "yes": np.array(True)}),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_cannot_be_made_smaller_is_left_alone(case: str) -> None:
    nodes, constants = LEFT_ALONE[case]
    refused = quantised(made_of(nodes, **constants))

    assert isinstance(refused, NotApplicable)
    assert refused.reason == (
        "weight-only-int8: expected a matrix product (MatMul, Gemm) of at least 32 inputs with constant weights of its "
        "own, got none"
    )


def test_four_bits_are_what_numpy_makes_of_the_same_numbers() -> None:
    weight, rows = RANDOM.normal(size=(100, 24)).astype(np.float32), RANDOM.normal(size=(17, 100)).astype(np.float32)
    graph = made_of([helper.make_node("MatMul", ["x", "weight"], ["y"])], weight=weight)

    made = weight_only.quantise_weights(graph, bits=4)

    assert isinstance(made, bytes)
    numbers, scales = weight_only.round_weights4(weight.T)
    steps = numbers.astype(np.float64) - 8
    wide = (steps * scales[..., np.newaxis]).reshape(24, -1)[:, :100]
    assert answers(made, rows) == pytest.approx(rounded_rows(rows) @ wide.T, rel=1e-4, abs=1e-4)
    (attributes,) = [
        {each.name: helper.get_attribute_value(each) for each in node.attribute}
        for node in onnx.load_from_string(made).graph.node
    ]
    assert (attributes["bits"], attributes["accuracy_level"]) == (4, 4)


def test_four_bits_err_less_than_with_the_largest_weight_as_the_lowest_step() -> None:
    weights = RANDOM.normal(size=(64, 128)).astype(np.float32)
    numbers, scales = weight_only.round_weights4(weights)
    assert numbers.max() <= 15
    found = ((numbers.astype(np.float64) - 8) * scales[..., np.newaxis]).reshape(64, -1)
    blocks = weights.reshape(64, -1, BLOCK).astype(np.float64)
    plain = np.abs(blocks).max(axis=2, keepdims=True) / 8
    rounded = (np.clip(np.rint(blocks / plain), -8, 7) * plain).reshape(64, -1)
    assert np.square(found - weights).sum() < 0.9 * np.square(rounded - weights).sum()
    nothing, none = weight_only.round_weights4(np.zeros((1, 32), np.float32))
    assert (nothing == 8).all()
    assert (none == 0).all()
