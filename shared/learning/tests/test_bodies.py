"""Graphs from elsewhere: put into a served one, or refused with the reason."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from headrace_learning.bodies import MOST_NODES, MOST_NUMBERS, Body, read_body
from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import open_graph
from headrace_learning.writer import OPSET, Writer
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.arange(6, dtype=np.float32).reshape(3, 2) / 7
ROWS = np.random.default_rng(3).normal(size=(5, 3)).astype(np.float32)
Node = onnx.NodeProto


def linear(first: str = "x", output: str = "y") -> Node:
    return helper.make_node("MatMul", [first, "w"], [output])


def model_of(
    nodes: Sequence[Node],
    *,
    opset: int = OPSET,
    rows: Sequence[str | int | None] = ("n", 3),
    answers: Sequence[str | int | None] = ("n", 2),
    kind: int = TensorProto.FLOAT,
    more: Sequence[tuple[str, int]] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("x", kind, rows)],
        [helper.make_tensor_value_info("y", kind, answers)],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    sets = [helper.make_opsetid(domain, version) for domain, version in (("", opset), *more)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8, functions=functions)


def read(model: onnx.ModelProto) -> Body:
    return read_body(model.SerializeToString(), "far.onnx")


def written(*bodies: Body) -> bytes:
    """A graph of the bodies, one behind the other."""
    writer, value = Writer(), "x"
    for place, body in enumerate(bodies):
        value = body.write(writer, value, f"part {place}")
    graph = helper.make_graph(
        writer.nodes,
        "whole",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", 2])],
        list(writer.constants.values()),
    )
    domains = sorted({node.domain for node in writer.nodes} | {""})
    sets = [helper.make_opsetid(domain, OPSET if not domain else 3) for domain in domains]
    model = helper.make_model(graph, opset_imports=sets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def answers_of(graph: bytes) -> np.ndarray[Any, Any]:
    model = open_graph(graph)
    (answers,) = model.run({"x": ROWS}, [model.outputs[0].name])
    return np.asarray(answers)


def test_a_body_answers_inside_of_another_graph_as_it_did_alone() -> None:
    body = read(model_of([linear(output="h"), helper.make_node("Relu", ["h"], ["y"])]))
    assert (body.shape, body.outputs) == ((3,), 2)
    np.testing.assert_allclose(answers_of(written(body)), np.maximum(ROWS @ WEIGHTS, 0), atol=1e-6)
    body.require_rows_apart(ROWS)
    assert written(body) == written(body)


def test_bodies_behind_one_another_do_not_meet_in_their_names() -> None:
    three = model_of([helper.make_node("Gemm", ["x", "w"], ["h"]), linear("h")], answers=("n", 3))
    three.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.eye(3, dtype=np.float32) * 2, "w"))
    graph = written(read(three), read(model_of([linear()])))
    np.testing.assert_allclose(answers_of(graph), ROWS * 4 @ WEIGHTS, rtol=1e-5)


@pytest.mark.parametrize("opset", [7, 11, 13, 17, 19, 21])
def test_a_body_of_another_operator_set_is_converted(opset: int) -> None:
    nodes = [linear(output="h"), helper.make_node("Flatten", ["h"], ["f"]), helper.make_node("Softmax", ["f"], ["y"])]
    raised = np.exp(ROWS @ WEIGHTS)
    given = answers_of(written(read(model_of(nodes, opset=opset))))
    np.testing.assert_allclose(given, raised / raised.sum(axis=1, keepdims=True), atol=1e-6)


def test_operators_of_classical_models_are_known() -> None:
    scaler = helper.make_node("Scaler", ["x"], ["h"], domain="ai.onnx.ml", scale=[2.0] * 3, offset=[1.0] * 3)
    named = linear("h")
    named.domain = "ai.onnx"
    graph = written(read(model_of([scaler, named], more=[("ai.onnx.ml", 1)])))
    np.testing.assert_allclose(answers_of(graph), (ROWS - 1) * 2 @ WEIGHTS, rtol=1e-5)


def function(name: str, nodes: Sequence[Node]) -> onnx.FunctionProto:
    sets = [helper.make_opsetid("", OPSET), helper.make_opsetid("mine", 1)]
    return helper.make_function("mine", name, ["x", "w"], ["y"], nodes, sets)


def test_functions_become_the_operators_that_they_are_made_of() -> None:
    call = helper.make_node("f", ["x", "w"], ["y"], domain="mine")
    body = read(model_of([call], more=[("mine", 1)], functions=[function("f", [linear()])]))
    np.testing.assert_allclose(answers_of(written(body)), ROWS @ WEIGHTS, rtol=1e-5)


def test_functions_that_grow_without_end_are_refused_before_they_do() -> None:
    def calling(name: str, times: int) -> list[Node]:
        return [
            helper.make_node(name, ["x", "w"], [f"{'y' if each == 0 else each}"], domain="mine")
            for each in range(times)
        ]

    deep = [function(f"f{level}", calling(f"f{level + 1}", 10)) for level in range(12)] + [function("f12", [linear()])]
    itself = [function("f0", calling("f0", 2))]
    for functions in (deep, itself):
        with pytest.raises(NotLearnable, match=f"far.onnx: expected at most {MOST_NODES:,} operators"):
            read(model_of(calling("f0", 1), more=[("mine", 1)], functions=functions))


def branch() -> Node:
    value = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["b"])], "branch", [], [value])
    return helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)


def outside() -> onnx.ModelProto:
    model = model_of([linear()])
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model


def sparse() -> onnx.ModelProto:
    model = model_of([linear()])
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [6]))
    return model


def sized() -> list[Node]:
    """Return what makes a size, [1] int64, of the largest value of all rows."""
    return [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["i"], to=TensorProto.INT64),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array([1]))),
        helper.make_node("Reshape", ["i", "one"], ["s"]),
    ]


def summed(name: str) -> list[Node]:
    """Return what adds the sum of a tensor to each answer."""
    return [
        linear(output="p"),
        helper.make_node("ReduceSum", [name], ["r"], keepdims=0),
        helper.make_node("Add", ["p", "r"], ["y"]),
    ]


def doubled(times: int) -> list[Node]:
    """Return what puts a row behind itself again and again, and then sums it."""
    names = ["x", *(f"x{place}" for place in range(times))]
    joins = [helper.make_node("Concat", [name, name], [twice], axis=1) for name, twice in pairwise(names)]
    return [*joins, *summed(names[-1])]


def of_size(size: int) -> list[Node]:
    sizes = numpy_helper.from_array(np.array([1, size]))
    made = helper.make_node("ConstantOfShape", ["s"], ["z"])
    return [helper.make_node("Constant", [], ["s"], value=sizes), made, *summed("z")]


CONDITION = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
FOREIGN: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "a branch": (lambda: model_of([CONDITION, branch()]), "no branches and loops in the graph, got If"),
    "chance": (
        lambda: model_of([linear(output="h"), helper.make_node("RandomNormalLike", ["h"], ["y"])]),
        "the same answer each time, got RandomNormalLike",
    ),
    "dropout that drops": (
        lambda: model_of([CONDITION, linear(output="h"), helper.make_node("Dropout", ["h", "", "c"], ["y"])]),
        "the same answer each time, got Dropout",
    ),
    "operators of others": (
        lambda: model_of([helper.make_node("Magic", ["x"], ["y"], domain="com.example")], more=[("com.example", 1)]),
        "operators of ONNX alone, got Magic of 'com.example'",
    ),
    "sizes of values": (
        lambda: model_of([*sized(), helper.make_node("ConstantOfShape", ["s"], ["z"]), *summed("z")]),
        "sizes that follow from the number of rows, got ConstantOfShape of a size that follows from the rows' values",
    ),
    "sizes of what follows from values": (
        lambda: model_of(
            [
                *sized(),
                helper.make_node("Mul", ["s", "s"], ["t"]),
                helper.make_node("Tile", ["s", "t"], ["z"]),
                linear(),
            ]
        ),
        "sizes that follow from the number of rows, got Tile",
    ),
    "rows that grow": (
        lambda: model_of(doubled(25)),
        f"at most {MOST_NUMBERS:,} numbers in what is computed of a row, got 100,663,296 in 'x24'",
    ),
    "a constant of any size": (
        lambda: model_of(of_size(10**11)),
        f"at most {MOST_NUMBERS:,} numbers in what is computed of a row, got 100,000,000,000 in 'z'",
    ),
    "data beside it": (outside, "one file with all weights in it, got external data"),
    "sparse weights": (sparse, "dense weights, got sparse ones"),
    "an old set": (lambda: model_of([linear()], opset=6), "operator sets from 7 on"),
    "a new set of another domain": (
        lambda: model_of([linear()], more=[("ai.onnx.ml", 5)]),
        "up to 3 of ai.onnx.ml",
    ),
    "rows of a fixed number": (
        lambda: model_of([linear()], rows=(1, 3)),
        r"'x' with any number of rows .*, got \[1, 3\]",
    ),
    "rows of any width": (
        lambda: model_of([linear()], rows=("n", "m")),
        r"'x' with dimensions that are known behind the rows, got \['\?', '\?'\]",
    ),
    "a number": (lambda: model_of([linear()], rows=(), answers=()), r"'x' with any number of rows .*, got \[\]"),
    "doubles": (
        lambda: model_of([helper.make_node("Relu", ["x"], ["y"])], kind=TensorProto.DOUBLE, answers=("n", 3)),
        "'x' of type FLOAT, got DOUBLE",
    ),
    "answers of three dimensions": (
        lambda: model_of([helper.make_node("Relu", ["x"], ["y"])], rows=("n", 3, 2), answers=("n", 3, 2)),
        r"answers \[batch, outputs\], got \[batch, 3, 2\]",
    ),
    "an unknown operator": (lambda: model_of([helper.make_node("Magic", ["x"], ["y"])]), "a valid ONNX graph"),
    "two outputs": (
        lambda: helper.make_model(
            helper.make_graph(
                [linear(), helper.make_node("Relu", ["x"], ["z"])],
                "two",
                model_of([linear()]).graph.input,
                [
                    helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
                    for name, size in (("y", 2), ("z", 3))
                ],
                model_of([linear()]).graph.initializer,
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=8,
        ),
        "one input and one output",
    ),
}


def test_sizes_that_follow_from_the_number_of_rows_are_served() -> None:
    shape = helper.make_node("Shape", ["x"], ["s"])
    body = read(model_of([shape, helper.make_node("ConstantOfShape", ["s"], ["z"]), *summed("z")]))
    np.testing.assert_allclose(body.answer(ROWS), ROWS @ WEIGHTS, rtol=1e-6)


def test_rows_may_grow_as_far_as_a_replica_can_hold_them() -> None:
    assert read(model_of(doubled(24))).outputs == 2


@pytest.mark.parametrize("case", FOREIGN)
def test_what_cannot_be_served_is_refused_by_name(case: str) -> None:
    make, reason = FOREIGN[case]
    with pytest.raises(NotLearnable, match=f"^far.onnx: expected .*{reason}"):
        read(make())


@pytest.mark.parametrize("data", [b"", b"no graph", b"\x0a\xff\xff\xff\x0f", bytes(1000)])
def test_bytes_that_are_no_graph_are_refused(data: bytes) -> None:
    with pytest.raises(NotLearnable, match=r"^far\.onnx: expected a valid ONNX graph"):
        read_body(data, "far.onnx")


def test_rows_that_know_of_one_another_are_found() -> None:
    mean = helper.make_node("ReduceMean", ["x"], ["m"], axes=[0])
    body = read(model_of([mean, helper.make_node("Sub", ["x", "m"], ["h"]), linear("h")], opset=13))
    with pytest.raises(NotLearnable, match="the same answer to a row whatever rows come beside it"):
        body.require_rows_apart(ROWS)


def test_what_the_runtime_cannot_run_is_an_error_of_the_graph() -> None:
    places = helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64)
    model = model_of([places, helper.make_node("Gather", ["w", "i"], ["y"])], rows=("n",))
    with pytest.raises(NotLearnable, match=r"^far\.onnx: expected a graph that ONNX Runtime can run, got .*[Oo]ut of"):
        read(model).answer(np.full(1, 1000, np.float32))
