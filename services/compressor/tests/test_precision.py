"""Variants of a model that answers in float64 around a large mean."""

import numpy as np
import onnx
import pytest
import torch
from headrace_compressor.core.compression import make_variants, measure_variants
from headrace_compressor.core.measurement import Rows
from headrace_data.spec import Variant
from headrace_data.transforms import FittedTransform
from headrace_learning.evaluation import predict_numbers
from headrace_learning.export import export_graph
from headrace_learning.families.mlp import mlp
from headrace_learning.features import Feature
from headrace_learning.large import structure_of
from headrace_learning.methods.method import Source
from headrace_learning.served import ServedRegressor

INT8 = [Variant(kind="int8-dynamic")]


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "deviation"), [(1e12, 1.0), (1.7e9, 30.0)])
def test_variants_answer_in_float64_and_are_measured_in_the_label_s_unit(mean, deviation):
    torch.manual_seed(1)
    length = Feature(FittedTransform("length", "none", np.array(0.0), np.array(1.0)), "float32")
    model = ServedRegressor([length], (1,), mlp(1, [64, 64], 1), mean, deviation, torch.float64)
    columns = {"length": np.linspace(-2, 2, 200, dtype=np.float32)}
    with torch.no_grad():
        expected = model(model.prepare(columns)).numpy()
    graph = export_graph(model, (), columns).data

    variants = measure_variants(
        make_variants(Source(graph), INT8)[0], Rows("d", [(columns, expected)], len(expected)), lambda *_: None
    )

    assert [variant.name for variant in variants] == ["fp32", "int8"]
    for variant in variants:
        (output,) = structure_of(variant.graph).graph.output
        assert output.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
        assert len(set(predict_numbers(variant.graph, columns))) > 100
        assert variant.metrics["rmse"] < 0.05 * deviation
    # What is measured is the difference of the variants, and not the steps of a type.
    assert variants[0].metrics["rmse"] < 1e-3 * deviation
    assert variants[1].metrics["rmse"] != variants[0].metrics["rmse"]
