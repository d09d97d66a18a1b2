"""Static quantisation computes what numpy does with the rounded numbers, and keeps in float what errs most."""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from headrace_engines.processors import adds_in_32_bits, own_class
from headrace_learning.evaluation import open_graph
from headrace_learning.large import structure_of, whole
from headrace_learning.methods import METHODS, int8_static
from headrace_learning.methods.calibration import of_columns
from headrace_learning.methods.folding import fold_normalisation
from headrace_learning.methods.int8_static import _RANGES
from headrace_learning.methods.method import Made, NotApplicable, Source
from headrace_learning.methods.observing import Histogram, histograms
from onnx import TensorProto, helper, numpy_helper

from .variant_sections import section

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(5)
ROWS = RANDOM.normal(size=(200, 24)).astype(np.float32)


def normal(*shape: int) -> Array:
    numbers: Array = RANDOM.normal(size=shape).astype(np.float32)
    return numbers


def made_of(nodes: list[onnx.NodeProto], shape: tuple[int, ...] = (24,), **constants: Array) -> bytes:
    """Return a graph from x, [batch, *shape], to y."""
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def quantised(graph: bytes, rows: Array = ROWS, **settings: Any) -> Made:
    made = METHODS["int8-static"].make(Source(graph, of_columns({"x": rows})), section("int8-static", **settings))
    assert isinstance(made, Made), made
    return made


def answers(graph: bytes, rows: Array) -> npt.NDArray[np.float64]:
    (found,) = open_graph(graph).run({"x": rows}, ["y"])
    return found.astype(np.float64)


def operators(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


def error(graph: bytes, made: bytes, rows: Array) -> float:
    expected = answers(graph, rows)
    return float(np.linalg.norm(answers(made, rows) - expected) / np.linalg.norm(expected - expected.mean(axis=0)))


def _two_products(between: str, first: str = "Gemm", **attributes: Any) -> bytes:
    weight = normal(24, 40)
    one = weight.T.copy() if attributes.get("transB") else weight
    if first == "Gemm":
        nodes = [helper.make_node("Gemm", ["x", "one", "b"], ["s"], "one", **attributes)]
    else:
        nodes = [helper.make_node("MatMul", ["x", "one"], ["p"], "one"), helper.make_node("Add", ["p", "b"], ["s"])]
    nodes += [helper.make_node(between, ["s"], ["h"]), helper.make_node("Gemm", ["h", "two", "c"], ["y"], "two")]
    return made_of(nodes, one=one, b=normal(40), two=normal(40, 5) / 6, c=normal(5))


LAYERS = {
    "products": _two_products("Relu"),
    "products of rows": _two_products("Relu", transB=1),
    "products and a sum": _two_products("Relu", "MatMul"),
    "something that is joined early": _two_products("Tanh"),
    "something else between": _two_products("Abs"),
}


@pytest.mark.parametrize("case", LAYERS)
def test_products_answer_as_float_does_and_a_row_alone_as_among_others(case: str) -> None:
    made = quantised(LAYERS[case], calibrate="minmax")

    assert made.told["quantised"] == "2 of 2"
    assert error(LAYERS[case], whole(made.graph), ROWS) < 0.04
    alone = np.concatenate([answers(whole(made.graph), row[np.newaxis]) for row in ROWS[:50]])
    # Ranges are fixed: nothing of a row depends on the rows beside it. An outlier is cut off.
    outlier = np.full((1, 24), 1e6, np.float32)
    among = answers(whole(made.graph), np.concatenate([ROWS[:50], outlier]))
    assert (among[:50] == alone).all()
    assert np.isfinite(among).all()


def test_a_product_is_what_numpy_makes_of_the_rounded_numbers() -> None:
    weight, bias = normal(24, 7), normal(7)
    graph = made_of([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], w=weight, b=bias)
    made = quantised(graph, calibrate="minmax")

    held = {each.name: numpy_helper.to_array(each) for each in structure_of(made.graph).graph.initializer}
    numbers, scales = held["w/int8"].astype(np.float64), held["w/int8/scales"].astype(np.float64)
    # Seven bits, all of them used by each output: pairs of products with uint8 fit 16 bits.
    assert np.abs(numbers).max(axis=0).tolist() == [64] * 7
    assert numbers * scales == pytest.approx(weight, abs=scales.max() / 2)
    step, zero = float(held["x/scale"]), int(held["x/zero"])
    rounded = np.clip(np.rint(ROWS / np.float32(step)) + zero, 0, 255) - zero
    expected = rounded * step @ (numbers * scales) + np.rint(bias / (step * scales)) * step * scales
    assert answers(whole(made.graph), ROWS) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def _convolutions() -> bytes:
    norm: dict[str, Array] = {
        "scale": 1 + normal(6) / 4,
        "shift": normal(6),
        "mean": normal(6) / 4,
        "var": 1 + normal(6) ** 2,
    }
    nodes = [
        helper.make_node("Conv", ["x", "one"], ["c"], "one", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", *norm], ["n"], epsilon=1e-3),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["m", "two", "b"], ["d"], "two", kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Flatten", ["d"], ["f"]),
        helper.make_node("MatMul", ["f", "three"], ["y"], "three"),
    ]
    constants: dict[str, Array] = {
        "one": normal(6, 2, 3, 3),
        "two": normal(4, 6, 3, 3) / 7,
        "b": normal(4),
        "three": normal(4, 3),
    }
    return made_of(nodes, (2, 8, 8), **constants, **norm)


def test_convolutions_are_quantised_with_what_normalises_them() -> None:
    graph, images = _convolutions(), normal(100, 2, 8, 8)
    folded = whole(fold_normalisation(graph))
    assert "BatchNormalization" not in operators(folded)
    assert answers(folded, images) == pytest.approx(answers(graph, images), rel=1e-4, abs=1e-4)

    made = quantised(graph, images, error=0.1)

    assert made.told["quantised"] == "3 of 3"
    assert error(graph, whole(made.graph), images) < 0.1
    assert len(structure_of(made.graph).graph.initializer) == len(
        {each.name for each in structure_of(made.graph).graph.initializer}
    )


def test_a_normalisation_whose_input_others_read_is_left_alone() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("BatchNormalization", ["c", "one", "zero", "zero", "one"], ["n"]),
        helper.make_node("Add", ["c", "n"], ["y"]),
    ]
    graph = made_of(nodes, (2, 4, 4), w=normal(3, 2, 1, 1), one=np.ones(3, np.float32), zero=np.zeros(3, np.float32))
    assert operators(whole(fold_normalisation(graph))) == operators(graph)


def test_the_layer_that_errs_most_stays_float() -> None:
    # One input of the first is a million times the others: rounded with it these are nothing.
    weight, factors = normal(24, 24), np.ones(24, np.float32)
    factors[0] = 1e6
    nodes = [
        helper.make_node("Mul", ["x", "factors"], ["a"]),
        helper.make_node("MatMul", ["a", "one"], ["h"], "wide"),
        helper.make_node("MatMul", ["h", "two"], ["y"], "plain"),
    ]
    weight[0] *= 1e-6
    graph = made_of(nodes, factors=factors, one=weight, two=normal(24, 5))

    made = quantised(graph)

    assert made.told["reverted"] == "wide"
    assert made.told["quantised"] == "1 of 2"
    assert error(graph, whole(made.graph), ROWS) < 0.03
    # Never more than half of them, whatever is asked for.
    assert quantised(graph, error=1e-9).told["quantised"] == "1 of 2"
    # What may err more keeps none.
    assert quantised(graph, error=100.0).told["quantised"] == "2 of 2"


def test_ranges_take_in_all_most_or_what_tells_most() -> None:
    values = np.concatenate([RANDOM.normal(size=100_000), [40.0]]).astype(np.float32)
    seen = Histogram()
    seen.span(values)
    seen.count(values)
    ranges = {how: cut(seen) for how, cut in _RANGES.items()}
    assert ranges["minmax"] == pytest.approx((values.min(), 40))
    # 99.99 % of a normal distribution lie within 3.9 deviations.
    assert ranges["percentile"] == pytest.approx((-3.9, 3.9), abs=0.2)
    assert 2 < ranges["entropy"][1] < 8


def test_what_is_looked_at_is_the_same_however_rows_are_cut() -> None:
    graph = LAYERS["products"]
    seen = histograms(graph, ["x", "h"], {"x": ROWS})
    assert seen["x"].most == ROWS.max()
    assert seen["x"].counts.sum() == ROWS.size
    assert seen["h"].least == 0
    assert seen["h"].counts.sum() == len(ROWS) * 40
    gaps = ROWS.copy()
    gaps[0] = np.nan
    assert histograms(graph, ["x"], {"x": gaps})["x"].counts.sum() == ROWS.size - 24


def test_without_training_rows_it_does_not_apply() -> None:
    made = METHODS["int8-static"].make(Source(LAYERS["products"]), section("int8-static"))
    assert made == NotApplicable("int8-static: expected rows of the training split to calibrate on, got none")


def test_numbers_that_float_can_hardly_tell_apart_are_quantised_too() -> None:
    tiny = made_of([helper.make_node("Gemm", ["x", "w", "b"], ["y"], "only")], w=normal(24, 5), b=normal(5))
    made = quantised(tiny, np.full((20, 24), 1e-43, np.float32))

    assert made.told["quantised"] == "1 of 1"


def test_full_weights_are_of_processors_that_add_in_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, source = LAYERS["products"], of_columns({"x": ROWS})
    monkeypatch.setattr(int8_static, "own_class", lambda: "avx2")
    found = METHODS["int8-static"].make(Source(graph, source), section("int8-static", bits=8))
    assert isinstance(found, NotApplicable)
    assert found.reason.startswith("int8-static: expected a processor that adds products of 8 bits in 32 bits")
    assert "got class avx2, measured on avx2" in found.reason

    monkeypatch.setattr(int8_static, "own_class", lambda: "avx512-vnni")
    # A compressor may be told to measure for replicas that have less.
    found = METHODS["int8-static"].make(Source(graph, source, cpu_class="avx2"), section("int8-static", bits=8))
    assert isinstance(found, NotApplicable)
    assert "got class avx2, measured on avx512-vnni" in found.reason
    made = quantised(graph, bits=8)
    (numbers,) = (
        numpy_helper.to_array(each) for each in structure_of(made.graph).graph.initializer if each.name == "one/int8"
    )
    assert np.abs(numbers.astype(int)).max(axis=0).tolist() == [127] * 40
    assert (made.told["bits"], made.told["cpu_class"]) == ("8", "avx512-vnni")


@pytest.mark.skipif(not adds_in_32_bits(own_class()), reason="a class that adds in 16 bits has no such variant")
@pytest.mark.parametrize("case", LAYERS)
def test_full_weights_err_less_here(case: str) -> None:
    seven, eight = (quantised(LAYERS[case], calibrate="minmax", bits=bits) for bits in (7, 8))
    # Where sums were cut off it would be a tenth.
    assert error(LAYERS[case], whole(eight.graph), ROWS) <= 1.02 * error(LAYERS[case], whole(seven.graph), ROWS) < 0.04
