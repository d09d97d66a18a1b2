"""Products of low rank are the best ones for the rows that there are, and stay as they are where nothing is gained."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from headrace_learning.evaluation import open_graph
from headrace_learning.large import structure_of, whole
from headrace_learning.methods import METHODS
from headrace_learning.methods.calibration import of_columns
from headrace_learning.methods.method import Made, NotApplicable, Source
from onnx import TensorProto, helper, numpy_helper

from .variant_sections import section

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(17)


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def graph_of(weights: Array, bias: Array | None = None) -> bytes:
    """Return a graph of one product from x, [batch, inputs], to y."""
    held = {"w": weights} if bias is None else {"w": weights, "b": bias}
    graph = helper.make_graph(
        [helper.make_node("MatMul" if bias is None else "Gemm", ["x", *held], ["y"], "product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", len(weights)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [numpy_helper.from_array(values, name) for name, values in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def made_of(graph: bytes, rows: Array, **settings: Any) -> Made | NotApplicable:
    return METHODS["low-rank"].make(Source(graph, of_columns({"x": rows})), section("low-rank", **settings))


def answers(graph: bytes, rows: Array) -> Array:
    return np.asarray(open_graph(graph).run({"x": rows}, ["y"])[0], np.float64)


@pytest.mark.parametrize(("inputs", "outputs"), [(40, 24), (24, 40)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_rank_loses_the_least_that_one_can_lose(inputs: int, outputs: int, bias: bool) -> None:
    # Some directions of the rows are a hundred times as long as others: weights alone would choose others.
    rows = (normal(300, inputs) * np.geomspace(100, 1, inputs)).astype(np.float32)
    weights = normal(inputs, outputs)
    graph = graph_of(weights, normal(outputs) if bias else None)

    made = made_of(graph, rows, rank=6)

    assert isinstance(made, Made)
    assert made.told["rank product"] == f"6 of {min(inputs, outputs)}"
    lost = np.linalg.norm(answers(whole(made.graph), rows) - answers(graph, rows))
    values = np.linalg.svd(rows.astype(np.float64) @ weights, compute_uv=False)
    assert lost == pytest.approx(np.linalg.norm(values[6:]), rel=1e-3)
    assert len(whole(made.graph)) < 0.75 * len(graph)


def test_as_many_directions_are_kept_as_the_energy_asks_for() -> None:
    directions = normal(5, 40)
    rows = (normal(300, 5) @ directions + 1e-3 * normal(300, 40)).astype(np.float32)
    graph = graph_of(normal(40, 40), normal(40))
    ranks = {}
    for energy in (0.5, 0.9999):
        made = made_of(graph, rows, energy=energy)
        assert isinstance(made, Made)
        ranks[energy] = int(made.told["rank product"].partition(" ")[0])
        expected = answers(graph, rows)
        lost = np.square(answers(whole(made.graph), rows) - expected).sum() / np.square(expected).sum()
        assert lost <= (1 - energy) * 1.2
    assert ranks[0.5] < ranks[0.9999] == 5
    last = made_of(graph, rows, energy=0.9999)
    assert isinstance(last, Made)
    sizes = [np.prod(each.dims) for each in structure_of(last.graph).graph.initializer if len(each.dims) == 2]
    assert sorted(sizes) == [200, 200]


def test_where_no_product_gets_smaller_it_does_not_apply() -> None:
    full = made_of(graph_of(normal(40, 40)), normal(300, 40), energy=0.999)
    assert isinstance(full, NotApplicable)
    assert full.reason == (
        "low-rank: expected a matrix product (MatMul, Gemm) of which fewer weights keep 0.999 of what it answers, got "
        "none of 1"
    )
    # 20 of 40 and 40 is the rank from which two products have as many weights as one.
    assert isinstance(made_of(graph_of(normal(40, 40)), normal(300, 40), rank=20), NotApplicable)
    assert isinstance(made_of(graph_of(normal(40, 40)), normal(300, 40), rank=19), Made)
    assert isinstance(made_of(graph_of(normal(24, 40)), np.zeros((9, 24), np.float32)), NotApplicable)


def test_without_training_rows_it_does_not_apply() -> None:
    made = METHODS["low-rank"].make(Source(graph_of(normal(40, 40))), section("low-rank"))
    assert made == NotApplicable("low-rank: expected rows of the training split to calibrate on, got none")
