from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from headrace_inference.adapters.engine_model import EngineModel
from headrace_runtime.errors import Unprocessable
from onnx import TensorProto, helper

MakeGraph = Callable[..., bytes]


def test_a_graph_has_a_signature(graph: bytes) -> None:
    signature = EngineModel(graph, max_rows=64).signature
    specs = [(spec.name, spec.datatype.name, spec.sizes) for spec in (*signature.inputs, *signature.outputs)]
    assert specs == [("pixels", "FP32", (-1, 8, 8)), ("probabilities", "FP32", (-1, 10)), ("label", "INT64", (-1,))]


def test_outputs_come_in_the_order_asked_for(make_graph: MakeGraph) -> None:
    model = EngineModel(make_graph(classes=[f"class {number}" for number in range(10)]), max_rows=64)
    label, probabilities = model.run({"pixels": np.ones((3, 8, 8), np.float32)}, ["label", "probabilities"])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert label.tolist() == [f"class {place}" for place in probabilities.argmax(axis=1)]


def test_warming_measures_a_row_and_a_batch(make_graph: MakeGraph) -> None:
    speed = EngineModel(make_graph(work=2), max_rows=64).warm()
    assert speed.first_row_s > 0
    assert speed.of(32) >= speed.first_row_s
    assert EngineModel(make_graph(), max_rows=1).warm().next_row_s == 0.0


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(Unprocessable, match="ONNX Runtime cannot load it"):
        EngineModel(b"no graph", max_rows=1)


def identity(element: int, *shape: int | str | None) -> bytes:
    value = [helper.make_tensor_value_info(name, element, shape) for name in ("x", "y")]
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", value[:1], value[1:])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("element", "datatype"),
    [
        (TensorProto.BOOL, "BOOL"),
        (TensorProto.INT8, "INT8"),
        (TensorProto.UINT16, "UINT16"),
        (TensorProto.FLOAT16, "FP16"),
        (TensorProto.DOUBLE, "FP64"),
        (TensorProto.STRING, "BYTES"),
    ],
)
def test_every_type_is_served_as_the_protocol_calls_it(element: int, datatype: str) -> None:
    model = EngineModel(identity(element, "batch", 2), max_rows=4)
    model.warm()
    (spec,) = model.signature.inputs
    assert (spec.datatype.name, spec.shape) == (datatype, ("batch", 2))


def test_dimensions_without_a_name_are_the_callers_choice() -> None:
    (spec,) = EngineModel(identity(TensorProto.FLOAT, None, None, 3), max_rows=4).signature.inputs
    assert spec.shape == ("batch", "x/1", 3)


def test_a_type_that_the_protocol_lacks_is_refused() -> None:
    with pytest.raises(Unprocessable, match="tensor 'x' has type tensor\\(bfloat16\\)"):
        EngineModel(identity(TensorProto.BFLOAT16, "batch"), max_rows=1)


def test_a_graph_names_what_may_be_missing(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    helper.set_model_props(model, {"headrace.optional": '["pixels", "other"]'})
    broken = onnx.load_from_string(graph)
    helper.set_model_props(broken, {"headrace.optional": "pixels"})

    assert [spec.optional for spec in EngineModel(graph, 8).signature.inputs] == [False]
    assert [spec.optional for spec in EngineModel(model.SerializeToString(), 8).signature.inputs] == [True]
    with pytest.raises(Unprocessable, match=r"JSON list of names as headrace.optional, got 'pixels'"):
        EngineModel(broken.SerializeToString(), 8)


def test_a_graph_says_where_answers_depend_on_other_rows(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    helper.set_model_props(model, {"headrace.rows": '"dependent"'})

    assert [spec.depends for spec in EngineModel(graph, 8).signature.outputs] == [False, False]
    assert [spec.depends for spec in EngineModel(model.SerializeToString(), 8).signature.outputs] == [True, True]
    helper.set_model_props(model, {"headrace.rows": "1"})
    with pytest.raises(Unprocessable, match=r'"dependent" as headrace.rows, got'):
        EngineModel(model.SerializeToString(), 8)


@pytest.mark.parametrize("told", ["pixels", '["y"]', '{"y": "a"}', '{"y": [1, 2]}'])
def test_a_graph_names_what_an_output_stands_for(graph: bytes, told: str) -> None:
    model = onnx.load_from_string(graph)
    helper.set_model_props(model, {"headrace.labels": '{"probabilities": ["cat", "dog"]}'})
    broken = onnx.load_from_string(graph)
    helper.set_model_props(broken, {"headrace.labels": told})

    assert [spec.labels for spec in EngineModel(graph, 8).signature.outputs] == [(), ()]
    labelled = EngineModel(model.SerializeToString(), 8).signature
    assert [labelled.output(name).labels for name in ("probabilities", "label")] == [("cat", "dog"), ()]
    with pytest.raises(Unprocessable, match=r"JSON object of lists of texts as headrace.labels, got"):
        EngineModel(broken.SerializeToString(), 8)
