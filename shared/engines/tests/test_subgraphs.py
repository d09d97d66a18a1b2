"""Graphs whose time depends on the values of a call are told from those where the number of rows decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from headrace_engines.onnx_model import OnnxModel
from headrace_engines.subgraphs import has_control_flow
from onnx import TensorProto, helper

TIMES = helper.make_tensor_value_info("times", TensorProto.INT64, [])
COUNTED = helper.make_tensor_value_info("counted", TensorProto.FLOAT, [])
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


Loop = Any
Make = Callable[[Loop], bytes]


def model(nodes: list[Any], functions: list[Any] | None = None) -> bytes:
    start = helper.make_tensor("start", TensorProto.FLOAT, [], [0.0])
    graph = helper.make_graph(nodes, "counts", [TIMES], [COUNTED], [start])
    made = helper.make_model(graph, functions=functions, opset_imports=OPSETS, ir_version=10)
    return bytes(made.SerializeToString())


def in_the_graph(loop: Loop) -> bytes:
    return model([loop])


def in_a_function(loop: Loop) -> bytes:
    function = helper.make_function("own", "Count", ["times", "start"], ["counted"], [loop], OPSETS)
    return model([helper.make_node("Count", ["times", "start"], ["counted"], domain="own")], [function])


def in_a_branch(loop: Loop) -> bytes:
    always = helper.make_tensor("always", TensorProto.BOOL, [], [True])
    counts = helper.make_graph([loop], "counts", [], [COUNTED])
    rests = helper.make_graph([helper.make_node("Identity", ["start"], ["counted"])], "rests", [], [COUNTED])
    constant = helper.make_node("Constant", [], ["always"], value=always)
    return model([constant, helper.make_node("If", ["always"], ["counted"], then_branch=counts, else_branch=rests)])


def plain() -> bytes:
    return model([helper.make_node("Cast", ["times"], ["counted"], to=TensorProto.FLOAT)])


@pytest.fixture
def counting_loop() -> Any:
    """A node that counts to `times`, from `start`, and calls the result `counted`."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["again"]), helper.make_node("Add", ["sum", "one"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])],
    )
    return helper.make_node("Loop", ["times", "", "start"], ["counted"], body=body)


@pytest.mark.parametrize("make", [in_the_graph, in_a_function, in_a_branch])
def test_control_flow_is_found_wherever_it_is(counting_loop: Loop, make: Make) -> None:
    graph = make(counting_loop)
    assert has_control_flow(graph)
    assert not OnnxModel(graph).is_steady


def test_other_graphs_have_none() -> None:
    assert not has_control_flow(plain())
    assert OnnxModel(plain()).is_steady


@pytest.mark.parametrize("cut", [b"\x3a\x7f", b"\x3b", b"\x80"])
def test_what_is_read_in_another_way_counts_as_control_flow(cut: bytes) -> None:
    assert has_control_flow(plain() + cut)
