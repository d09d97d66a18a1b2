"""Quantised graphs answer like the ones that they were made of."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from headrace_compressor.core.compression import Version
from headrace_compressor.core.measurement import Rows, measure
from headrace_engines.properties import ROWS
from headrace_learning.evaluation import predict
from headrace_learning.large import structure_of, whole
from headrace_learning.methods import int8_dynamic
from headrace_learning.methods.method import NotApplicable
from onnx import TensorProto, helper, numpy_helper

_MOST_WITHOUT_OVERFLOW = 64
"""Largest weight whose pairs of products with uint8 fit 16 bits: 2 * 255 * 64 < 2^15."""


def quantise_dynamic(graph: bytes) -> bytes:
    quantised = int8_dynamic.quantise_dynamic(graph)
    assert isinstance(quantised, bytes)
    return quantised


@pytest.fixture(params=["digits_mlp", "digits_cnn"])
def trained(request: pytest.FixtureRequest) -> Version:
    version: Version = request.getfixturevalue(request.param)
    return version


def _operators(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


@pytest.mark.slow
def test_a_quantised_network_is_as_good_and_smaller(trained: Version, rows: Rows) -> None:
    measured = dict(measure({"fp32": whole(trained.graph), "int8": quantise_dynamic(whole(trained.graph))}, rows))

    fp32, int8 = measured["fp32"], measured["int8"]
    assert fp32["accuracy"] > 0.94
    assert int8["accuracy"] >= fp32["accuracy"] - 0.01
    assert int8["agreement"] >= 0.98
    assert int8["relative_logit_error"] < 0.03
    assert int8["kl_divergence"] < 0.01
    assert int8["size_bytes"] < 0.6 * fp32["size_bytes"]


@pytest.mark.slow
def test_inputs_outputs_and_classes_are_kept(trained: Version) -> None:
    before, after = (
        onnx.load_from_string(graph) for graph in (whole(trained.graph), quantise_dynamic(whole(trained.graph)))
    )

    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    assert list(after.metadata_props)[:-1] == list(before.metadata_props)
    assert after.metadata_props[-1].key == ROWS
    onnx.checker.check_model(after, full_check=True)


@pytest.mark.slow
def test_every_matrix_product_is_quantised_and_nothing_else(trained: Version) -> None:
    before, after = _operators(whole(trained.graph)), _operators(quantise_dynamic(whole(trained.graph)))

    assert after["MatMulInteger"] == before["Gemm"] + before["MatMul"] > 0
    assert after["Conv"] == before["Conv"]
    assert after["Sub"] == before["Sub"] == 1
    assert not after["Gemm"] + after["MatMul"] + after["ConvInteger"]


@pytest.mark.slow
def test_weights_are_too_small_to_overflow_on_any_processor(trained: Version) -> None:
    weights = [
        numpy_helper.to_array(each)
        for each in onnx.load_from_string(quantise_dynamic(whole(trained.graph))).graph.initializer
        if each.data_type == TensorProto.INT8 and len(each.dims) == 2
    ]

    assert weights
    for each in weights:
        assert np.abs(each.astype(int)).max() == _MOST_WITHOUT_OVERFLOW


@pytest.mark.slow
def test_equal_graphs_give_equal_bytes_in_every_process(digits_mlp: Version, tmp_path: Path) -> None:
    file = tmp_path / "graph.onnx"
    file.write_bytes(whole(digits_mlp.graph))
    program = (
        "import sys; from pathlib import Path; from headrace_learning.methods.int8_dynamic import quantise_dynamic;"
        "sys.stdout.buffer.write(quantise_dynamic(Path(sys.argv[1]).read_bytes()))"
    )
    command = [sys.executable, "-c", program, str(file)]
    other = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "1"}).stdout

    assert quantise_dynamic(whole(digits_mlp.graph)) == other


@pytest.mark.slow
def test_the_graph_tells_nothing_of_where_it_was_made(digits_mlp: Version) -> None:
    model = structure_of(digits_mlp.graph)
    noted = model.graph.node[0]
    noted.doc_string = "/home/someone/network.py"
    noted.metadata_props.add(key="stack_trace", value="/home/someone/network.py")
    onnx.helper.set_model_props(model, {"licence": "Apache-2.0"})

    quantised = onnx.load_from_string(quantise_dynamic(model.SerializeToString()))

    assert b"someone" not in quantised.SerializeToString()
    assert [(each.key, each.value) for each in quantised.metadata_props] == [
        ("licence", "Apache-2.0"),
        (ROWS, '"dependent"'),
    ]


def test_a_graph_without_matrix_products_is_none_to_quantise() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "no_weights",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    refused = int8_dynamic.quantise_dynamic(model.SerializeToString())

    assert isinstance(refused, NotApplicable)
    assert refused.reason.startswith("int8-dynamic: expected at least one matrix product ")
    assert refused.reason.endswith("got a graph of 1 Relu")


def test_a_gemm_that_the_quantiser_would_skip_does_not_pass_for_quantised() -> None:
    weight = numpy_helper.from_array(np.ones((4, 4), dtype=np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight"], ["y"], alpha=0.5)],
        "scaled_product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    refused = int8_dynamic.quantise_dynamic(model.SerializeToString())

    assert isinstance(refused, NotApplicable)
    assert "1 Gemm" in refused.reason


@pytest.mark.slow
def test_one_row_gets_the_same_label_alone_as_among_others(digits_mlp: Version, rows: Rows) -> None:
    # Activations are scaled by the batch that they come in: this bounds how much a row's neighbours may matter.
    graph, pixels = quantise_dynamic(whole(digits_mlp.graph)), rows.first["pixels"][:200]
    together = predict(graph, {"pixels": pixels})
    alone = [predict(graph, {"pixels": pixels[row : row + 1]}) for row in range(len(pixels))]

    assert np.mean([one.labels[0] for one in alone] == together.labels) >= 0.99
