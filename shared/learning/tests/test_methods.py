"""What every method promises: the same bytes again, the same inputs and outputs, and no fault of a version."""

import platform
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from headrace_data.transforms import FittedTransform
from headrace_engines import properties
from headrace_learning.evaluation import open_graph, predict
from headrace_learning.export import export_graph
from headrace_learning.families.mlp import mlp
from headrace_learning.features import Feature
from headrace_learning.large import whole
from headrace_learning.methods import METHODS, float16_weights, int8_dynamic
from headrace_learning.methods.calibration import of_columns
from headrace_learning.methods.method import Made, NotApplicable, Source
from headrace_learning.served import ServedClassifier
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from .variant_sections import SECTIONS

LEARNING = ("distilled", "pruned", "qat")
"""The kinds that learn from a dataset; they have tests of their own."""
ROWS = {"x": np.random.default_rng(3).normal(size=(200, 6)).astype(np.float32)}


def graph_of(network: nn.Module) -> bytes:
    feature = Feature(FittedTransform("x", "none", np.zeros(6), np.ones(6)), "float32", (6,))
    return whole(export_graph(ServedClassifier([feature], (6,), network), list(range(6)), ROWS).data)


@pytest.fixture(scope="module")
def graph() -> bytes:
    torch.manual_seed(1)
    network = mlp(6, [64, 64], 6)
    (middle,) = (
        each
        for each in network.modules()
        if isinstance(each, nn.Linear) and each.in_features == 64 == each.out_features
    )
    # What a trained network often is, and one of random numbers is not: some directions are all that matters.
    middle.weight.data = (torch.randn(64, 4) @ torch.randn(4, 64)) / 16
    return graph_of(network)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in SECTIONS if kind not in LEARNING])
def test_a_variant_is_smaller_answers_alike_and_has_the_same_bytes_again(kind: str, graph: bytes) -> None:
    source = Source(graph, of_columns(ROWS))
    variant = METHODS[kind].make(source, SECTIONS[kind])

    assert isinstance(variant, Made)
    assert METHODS[kind].make(source, SECTIONS[kind]) == variant
    made = whole(variant.graph)
    assert len(made) < 0.6 * len(graph)
    before, after = onnx.load_from_string(graph), onnx.load_from_string(made)
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    told = [each for each in after.metadata_props if each.key != properties.ROWS]
    assert told == list(before.metadata_props)
    onnx.checker.check_model(after, full_check=True)
    assert np.mean(predict(made, ROWS).labels == predict(graph, ROWS).labels) >= 0.9


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_graph_without_weights_is_none_of_its_business(kind: str) -> None:
    made = METHODS[kind].make(Source(graph_of(nn.Identity()), of_columns(ROWS)), SECTIONS[kind])

    assert isinstance(made, NotApplicable)
    assert made.reason.startswith(f"{kind}: expected")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in SECTIONS if kind not in LEARNING])
def test_answers_depend_on_the_rows_of_a_call_only_where_the_graph_says_so(kind: str, graph: bytes) -> None:
    variant = METHODS[kind].make(Source(graph, of_columns(ROWS)), SECTIONS[kind])
    assert isinstance(variant, Made)
    model = open_graph(variant.graph)
    outlier = np.concatenate([ROWS["x"][:50], np.full((1, 6), 30, np.float32)])

    (alone,), (among,) = (model.run({"x": rows}, ["probabilities"]) for rows in (ROWS["x"][:50], outlier))

    differ = np.abs(among[:50] - alone).max()
    said = {each.depends for each in model.outputs}
    assert said == {kind == "int8-dynamic"}
    assert differ > 1e-3 if kind == "int8-dynamic" else differ < 1e-6


def test_products_of_float64_are_passed_over_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    wide = np.random.default_rng(2).normal(size=(6, 64))
    nodes = [
        helper.make_node("Cast", ["x"], ["w"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["w", "wide"], ["p"]),
        helper.make_node("Cast", ["p"], ["n"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["n", "narrow"], ["y"]),
    ]
    made = helper.make_graph(
        nodes,
        "both",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 6])],
        [numpy_helper.from_array(wide, "wide"), numpy_helper.from_array(wide.T.astype(np.float32), "narrow")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    quantised = int8_dynamic.quantise_dynamic(model.SerializeToString())

    assert isinstance(quantised, bytes)
    kinds = [node.op_type for node in onnx.load_from_string(quantised).graph.node]
    assert (kinds.count("MatMul"), kinds.count("MatMulInteger")) == (1, 1)
    assert caplog.text == ""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="of x86: elsewhere there are kernels of float16")
def test_float16_is_widened_on_this_kind_of_processor(tmp_path: Path) -> None:
    """Where this fails, ONNX Runtime has learned to compute in float16, and a method of it is worth writing."""
    weights = np.ones((64, 64), np.float16)
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "half", sides[:1], sides[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (held,) = onnx.load(options.optimized_model_filepath).graph.initializer
    assert held.data_type == TensorProto.FLOAT


def test_weights_that_float16_does_not_hold_are_told() -> None:
    network = nn.Linear(6, 6)
    nn.init.constant_(network.weight, 1e5)

    made = float16_weights.halve_weights(graph_of(network))

    assert made == NotApplicable("float16-weights: expected weights up to 65504, got one of 100000")
