"""A chain does one step after the other, and makes nothing where one of them does not apply."""

import numpy as np
from headrace_learning.large import structure_of
from headrace_learning.methods import METHODS
from headrace_learning.methods.method import Made, NotApplicable, Source
from onnx import TensorProto, helper, numpy_helper

from .variant_sections import section

INT8 = {"kind": "weight-only-int8"}
FP16 = {"kind": "float16-weights"}


def products(*inputs: int) -> bytes:
    """Return a graph of matrix products from x, [batch, inputs], one behind the other."""
    weights = [np.eye(one, other, dtype=np.float32) for one, other in zip(inputs, (*inputs[1:], 3), strict=True)]
    names = ["x", *(f"t{place}" for place in range(1, len(inputs))), "y"]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [names[place], f"w{place}"], [names[place + 1]], f"n{place}")
            for place in range(len(inputs))
        ],
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(each, f"w{place}") for place, each in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_each_step_is_given_what_the_step_before_it_made() -> None:
    source = Source(products(64, 8))
    made = METHODS["chain"].make(source, section("chain", steps=(INT8, FP16)))
    assert isinstance(made, Made)

    # Products of fewer than 32 inputs are left to the second step.
    assert [node.op_type for node in structure_of(made.graph).graph.node] == [
        "Cast",
        "MatMulNBits",
        "MatMul",
    ]
    assert made.told["steps"] == "weight-only-int8, float16-weights"


def test_a_step_that_does_not_apply_is_named() -> None:
    made = METHODS["chain"].make(Source(products(8)), section("chain", steps=(FP16, INT8)))

    assert isinstance(made, NotApplicable)
    assert made.reason.startswith("chain: expected each step to apply, got of one: weight-only-int8: expected ")
