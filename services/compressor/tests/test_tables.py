"""Variants of a regression over a table with gaps and categories."""

from typing import Any

import numpy as np
import pytest
import torch
from headrace_compressor.core.compression import Version, compare, make_variants, measure_variants
from headrace_compressor.core.measurement import Rows, reads
from headrace_data.spec import Field, Variant
from headrace_data.tasks import Slices
from headrace_data.transforms import FittedCategory, FittedTransform
from headrace_learning.evaluation import predict_numbers
from headrace_learning.export import export_graph
from headrace_learning.families.mlp import mlp
from headrace_learning.features import Feature
from headrace_learning.graphs import optional_inputs
from headrace_learning.methods.method import Made, Source
from headrace_learning.served import ServedRegressor

Columns = dict[str, np.ndarray[Any, Any]]

INT8 = [Variant(kind="int8-dynamic")]


def columns(rows: int) -> Columns:
    random = np.random.default_rng(2)
    length = random.normal(40, 5, rows).astype(np.float32)
    length[::7] = np.nan
    return {"length": length, "sort": random.choice(np.array(["a", "b", "", "new"], object), rows)}


@pytest.fixture(scope="module")
def regressor() -> Version:
    torch.manual_seed(5)
    length = Feature(
        FittedTransform("length", "standard", np.array(40.0), np.array(5.0), fill=np.array(41.0)), "float32"
    )
    sort = Feature(FittedCategory("sort", "onehot", ("a", "b"), "b"))
    model = ServedRegressor([length, sort], (3,), mlp(3, [64, 64], 1), mean=1000.0, deviation=50.0)
    return Version("sha256:number", "sha256:table", export_graph(model, (), columns(5)).data)


@pytest.mark.slow
def test_a_regressions_variants_are_measured_by_their_errors(regressor: Version) -> None:
    table = columns(200)
    truth = predict_numbers(regressor.graph, table) + 2.0

    fp32, int8 = measure_variants(
        make_variants(Source(regressor.graph), INT8)[0],
        Rows("sha256:table", [(table, truth)], len(truth)),
        lambda *_: None,
    )

    expected = {"size_bytes", "latency_ms_batch_1", "latency_ms_batch_32", "difference_error", "rmse", "mae", "r2"}
    assert fp32.metrics.keys() == int8.metrics.keys() >= expected
    assert int8.metrics["difference_error"] > fp32.metrics["difference_error"] == 0.0
    assert int8.metrics["non_finite_rows"] == int8.metrics["unrepeatable_rows"] == 0.0
    assert fp32.metrics["rmse"] == pytest.approx(2.0)
    assert int8.metrics["rmse"] != fp32.metrics["rmse"]
    assert int8.metrics["rmse"] == pytest.approx(2.0, rel=0.5)
    assert int8.metrics["size_bytes"] < fp32.metrics["size_bytes"]
    assert optional_inputs(int8.graph) == optional_inputs(fp32.graph) == {"length", "sort"}
    assert np.isfinite(predict_numbers(int8.graph, table)).all()


def test_variants_are_measured_in_each_slice(regressor: Version) -> None:
    table = columns(60)
    truth = predict_numbers(regressor.graph, table) + np.where(table["sort"] == "new", 3.0, 1.0)
    slices = Slices.of([Field(name="sort", type="string", role="feature")], [table])
    rows = Rows("sha256:table", [(table, truth)], len(truth), slices=slices)

    (fp32,) = measure_variants({"fp32": Made(regressor.graph)}, rows, lambda *_: None)
    (found,) = compare([regressor], [rows])

    assert fp32.metrics["slice/sort=new/rows"] == (table["sort"] == "new").sum()
    assert fp32.metrics["slice/sort=new/rmse"] == pytest.approx(3.0)
    assert fp32.metrics["slice/sort=a/rmse"] == pytest.approx(1.0)
    assert not any(name.startswith("slice/") for name in found.metrics)


def test_a_regression_is_compared_by_its_errors(regressor: Version) -> None:
    table = columns(30)
    truth = predict_numbers(regressor.graph, table)
    rows = Rows("sha256:table", [(table, truth)], len(truth))

    (found,) = compare([regressor], [rows])

    assert found.metrics == {"rmse": 0.0, "mae": 0.0, "r2": 1.0}
    assert reads(regressor.graph, table)
    assert not reads(regressor.graph, table | {"sort": np.zeros(30)})
