"""ONNX files of other tools: answered as they came, whatever their last operator is; and others refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from headrace_data.tasks.classification import LABEL, PROBABILITIES
from headrace_data.tasks.regression import PREDICTION
from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import open_graph
from headrace_learning.importing.onnx_files import read_onnx
from onnx import TensorProto, helper, numpy_helper

from .imports import Notebook, exported, fitted, model_of

RANDOM = np.random.default_rng(3)
WEIGHTS = RANDOM.normal(size=(4, 3)).astype(np.float32)
ROWS = RANDOM.normal(size=(9, 4)).astype(np.float32)
LOGITS = ROWS @ WEIGHTS
SHARES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
CLASSES = ("a", "b", "c")
Node = onnx.NodeProto


def node(operator: str, inputs: Sequence[str], output: str = "y", **attributes: Any) -> Node:
    return helper.make_node(operator, inputs, [output], **attributes)


LINEAR = node("MatMul", ["x", "w"], "z")


def file_of(
    *nodes: Node,
    width: int = 3,
    rows: Sequence[int | str] = ("n", 4),
    opset: int = 18,
    outputs: Sequence[onnx.ValueInfoProto] = (),
    weights: np.ndarray[Any, Any] = WEIGHTS,
) -> bytes:
    answers = outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows[0], width])]
    graph = helper.make_graph(
        nodes,
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, rows)],
        answers,
        [numpy_helper.from_array(weights, "w")],
    )
    sets = [helper.make_opsetid(domain, version) for domain, version in (("", opset), ("my.domain", 1))]
    return bytes(helper.make_model(graph, opset_imports=sets, ir_version=8).SerializeToString())


SOFTMAX = file_of(LINEAR, node("Softmax", ["z"], axis=1))
EVERY_END = {
    "logits": file_of(node("MatMul", ["x", "w"])),
    "softmax": SOFTMAX,
    "softmax of before": file_of(LINEAR, node("Softmax", ["z"]), opset=11),
    "log softmax": file_of(LINEAR, node("LogSoftmax", ["z"], axis=-1)),
    "shares of another operator": file_of(LINEAR, node("Softmax", ["z"], "p", axis=1), node("Identity", ["p"])),
    "one row alone": file_of(LINEAR, node("Softmax", ["z"], axis=1), rows=(1, 4)),
    "a label beside": file_of(
        LINEAR,
        node("Softmax", ["z"], axis=1),
        node("ArgMax", ["y"], "label", axis=1, keepdims=0),
        outputs=[
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3]),
        ],
    ),
}


@pytest.mark.parametrize("end", EVERY_END)
def test_a_graph_answers_as_it_did_whatever_its_end_is(end: str) -> None:
    notebook = Notebook()
    found = fitted(EVERY_END[end], "onnx", (4,), CLASSES, notebook)

    graph = exported(found.network, (4,), CLASSES).data
    shares, labels = open_graph(graph).run({"x": ROWS}, [PROBABILITIES, LABEL])
    np.testing.assert_allclose(shares, SHARES, atol=1e-6)
    assert labels.tolist() == [CLASSES[place] for place in SHARES.argmax(axis=1)]
    assert (found.outcome.epochs, len(notebook.losses), notebook.kept) == (0, 1, [])
    # The file is kept as it came.
    assert found.weights(model_of(found.network, (4,), CLASSES)) == EVERY_END[end]


def test_classes_in_another_order_are_put_in_that_of_the_label() -> None:
    found = fitted(SOFTMAX, "onnx", (4,), CLASSES, classes=["c", "a", "b"])
    (shares,) = open_graph(exported(found.network, (4,), CLASSES).data).run({"x": ROWS}, [PROBABILITIES])
    np.testing.assert_allclose(shares, SHARES[:, [1, 2, 0]], atol=1e-6)
    # A class that no row of the dataset has is left out.
    found = fitted(SOFTMAX, "onnx", (4,), ("a", "c"), classes=["a", "b", "c"])
    (shares,) = open_graph(exported(found.network, (4,), ("a", "c")).data).run({"x": ROWS}, [PROBABILITIES])
    np.testing.assert_allclose(shares, SHARES[:, [0, 2]] / SHARES[:, [0, 2]].sum(axis=1, keepdims=True), atol=1e-6)


ONE = WEIGHTS[:, :1]


def test_a_number_is_answered_in_the_unit_of_the_label() -> None:
    found = fitted(file_of(node("MatMul", ["x", "w"]), width=1, weights=ONE * 800), "onnx", (4,))
    (numbers,) = open_graph(exported(found.network, (4,)).data).run({"x": ROWS}, [PREDICTION])
    np.testing.assert_allclose(numbers, (ROWS @ ONE * 800)[:, 0], atol=1e-3)


def test_one_output_is_of_the_second_of_two_classes() -> None:
    sigmoid = file_of(LINEAR, node("Sigmoid", ["z"]), width=1, weights=ONE)
    share = 1 / (1 + np.exp(-(ROWS @ ONE)[:, 0]))
    hidden = file_of(LINEAR, node("Sigmoid", ["z"], "p"), node("Identity", ["p"]), width=1, weights=ONE)
    for data, answers in ((sigmoid, None), (hidden, "probabilities")):
        found = fitted(data, "onnx", (4,), (False, True), answers=answers)
        (shares,) = open_graph(exported(found.network, (4,), (0, 1)).data).run({"x": ROWS}, [PROBABILITIES])
        np.testing.assert_allclose(shares[:, 1], share, atol=1e-6)
    with pytest.raises(NotLearnable, match=r"always between 0 and 1; set train\.network\.answers"):
        fitted(hidden, "onnx", (4,), (False, True))


def test_an_infinite_logit_is_a_share_of_one_or_none() -> None:
    data = file_of(LINEAR, node("Sinh", ["z"], "q"), node("Sigmoid", ["q"]), width=1, weights=np.ones_like(ONE))
    found = fitted(data, "onnx", (4,), (0, 1))
    rows = np.array([[100] * 4, [-100] * 4, [0] * 4], dtype=np.float32)
    (shares,) = open_graph(exported(found.network, (4,), (0, 1)).data).run({"x": rows}, [PROBABILITIES])
    np.testing.assert_array_equal(shares, [[0, 1], [1, 0], [0.5, 0.5]])


def test_images_keep_their_dimensions() -> None:
    flat = node("Flatten", ["x"], "flat", axis=1)
    data = file_of(flat, node("MatMul", ["flat", "w"]), rows=("n", 2, 1, 2))
    assert exported(fitted(data, "onnx", (2, 2), CLASSES).network, (2, 2), CLASSES).difference < 1e-6
    with pytest.raises(NotLearnable, match=r"expected rows of shape \[2, 1, 2\], which it takes, got \[5\]"):
        fitted(data, "onnx", (5,), CLASSES)


def external(data: bytes) -> bytes:
    model = onnx.load_from_string(data)
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return bytes(model.SerializeToString())


TWO = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("y", "z")]
HOSTILE: list[tuple[str, Callable[[], bytes]]] = [
    ("expected ONNX, got a pickle, which is never read", lambda: b"\x80\x04" + SOFTMAX),
    ("expected ONNX, got a zip archive, such as .keras", lambda: b"PK\x03\x04" + SOFTMAX),
    ("expected ONNX, got bytes that are none", lambda: SOFTMAX[:-7]),
    ("expected a graph with operators and outputs, got none", lambda: b""),
    ("expected a model that can be read, got UnicodeDecodeError", lambda: SOFTMAX.replace(b"MatMul", b"Ma\xffMul")),
    ("expected one file with all weights in it", lambda: external(SOFTMAX)),
    (
        "expected one output of float32, got y, z among y, z",
        lambda: file_of(node("MatMul", ["x", "w"]), LINEAR, outputs=TWO),
    ),
    (
        "expected one output of float32, got none among y",
        lambda: file_of(
            LINEAR,
            node("ArgMax", ["z"], axis=1, keepdims=0),
            outputs=[helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])],
        ),
    ),
    ("MyOperator of 'my.domain'", lambda: file_of(node("MyOperator", ["x"], domain="my.domain"))),
    (
        "the same answer to a row whatever rows come beside it",
        lambda: file_of(LINEAR, node("Softmax", ["z"], "s", axis=0), node("Add", ["s", "z"])),
    ),
    ("RandomNormalLike, which is random", lambda: file_of(LINEAR, node("RandomNormalLike", ["z"]))),
]


@pytest.mark.parametrize(("told", "make"), HOSTILE, ids=[told for told, _ in HOSTILE])
def test_files_that_cannot_be_served_are_refused_with_the_reason(told: str, make: Callable[[], bytes]) -> None:
    with pytest.raises(NotLearnable) as refused:
        read_onnx(make())
    assert told in str(refused.value)


def test_a_graph_without_finite_answers_is_refused() -> None:
    with pytest.raises(NotLearnable, match="expected finite answers"):
        fitted(file_of(node("MatMul", ["x", "w"]), weights=WEIGHTS * np.float32(np.inf)), "onnx", (4,), CLASSES)


def test_nothing_of_a_graph_is_frozen() -> None:
    with pytest.raises(NotLearnable, match="expected none for onnx"):
        fitted(SOFTMAX, "onnx", (4,), CLASSES, frozen=["*"])
