"""Tables: what the reference, the training path and the served graph make of gaps, categories and extreme values."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from headrace_data.fitting import fit
from headrace_data.records import RecordChecker
from headrace_data.sketches import Sketch
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.spec.feature_rules import RESERVED
from headrace_data.tasks.classification import LABEL, PROBABILITIES
from headrace_data.tasks.regression import PREDICTION, errors_of
from headrace_data.transforms import LARGEST, FittedCategory, FittedTransform, FittedTransforms
from headrace_engines.model import run_in_batches
from headrace_learning.building import LabelScale, features_of, served
from headrace_learning.costs import latencies_ms
from headrace_learning.errors import ExportMismatch, NotLearnable
from headrace_learning.evaluation import evaluate, open_graph, predict, predict_numbers
from headrace_learning.export import export_graph
from headrace_learning.families import mlp
from headrace_learning.features import Feature
from headrace_learning.graphs import (
    CLASSES,
    LOGITS,
    optional_inputs,
    task_of_graph,
    with_logits,
)
from headrace_learning.large import whole
from headrace_learning.served import ServedClassifier, ServedModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

pytestmark = pytest.mark.slow

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: table}
stream:
  topic: table
  schema:
    - {name: id, type: int64, role: id}
    - {name: length, type: float32, role: feature, nullable: true}
    - {name: far, type: float32, role: feature, nullable: true}
    - {name: wide, type: float64, role: feature, nullable: true}
    - {name: rooms, type: int32, role: feature, nullable: true}
    - {name: year, type: uint16, role: feature}
    - {name: tame, type: bool, role: feature}
    - {name: ringed, type: bool, role: feature, nullable: true}
    - {name: pair, type: float32, shape: [2], role: feature, nullable: true}
    - {name: colour, type: string, role: feature, nullable: true}
    - {name: size, type: string, role: feature, nullable: true}
    - {name: sort, type: string, role: feature}
    - {name: y, type: LABEL, role: label}
prepare:
  clean: {missing: keep}
  transform:
    length: {impute: median, scale: robust}
    far: {impute: mean, scale: standard}
    wide: {impute: {constant: -1e6}, scale: minmax}
    rooms: {impute: mostFrequent}
    ringed: {impute: mostFrequent, scale: standard}
    pair: {impute: {constant: 0.25}, scale: standard}
    colour: {impute: mostFrequent, encode: onehot}
    size: {impute: {constant: unknown}, encode: ordinal}
    sort: {encode: onehot}
train: {network: {kind: mlp, hidden: [8]}}
"""
COLOURS = ["red", "grün", "zero\u0000inside", "😀", "e\u0301", "\u00e9", " ", "null"]
SCALE = LabelScale(4200.0, 800.0)
Columns = dict[str, np.ndarray[Any, Any]]


def build_model(pipeline: Pipeline, transforms: FittedTransforms, answers: int | LabelScale) -> ServedModel:
    shape = mlp.FAMILY.input_shape(features := features_of(pipeline, transforms))
    network = mlp.FAMILY.build(pipeline.train.network, shape, answers if isinstance(answers, int) else 1)
    return served(pipeline, features, shape, network, answers)


def pipeline_of(label: str) -> Pipeline:
    return load_pipeline(DOCUMENT.replace("LABEL", label))


def records() -> list[bytes]:
    random = np.random.default_rng(4)
    rows = []
    for place in range(200):
        row = {
            "id": place,
            "length": float(random.normal(20, 5)),
            # Far from zero for its spread: float32 alone would lose what tells the rows apart.
            "far": float(1e6 + random.normal(0, 2)),
            "wide": float(random.normal(0, 1e200)),
            "rooms": int(random.integers(-3, 4)),
            "year": int(random.integers(1900, 2030)),
            "tame": bool(random.integers(0, 2)),
            "ringed": bool(random.integers(0, 2)),
            "pair": random.normal(0, 1e-3, 2).tolist(),
            "colour": COLOURS[random.integers(0, len(COLOURS))],
            "size": "SML"[random.integers(0, 3)],
            "sort": "ab"[random.integers(0, 2)],
            "y": place % 3,
        }
        for name in ("length", "far", "wide", "rooms", "ringed", "pair", "colour", "size"):
            if random.random() < 0.2:
                row[name] = "" if name == "size" else None
        rows.append(json.dumps(row).encode())
    return rows


def fitted(pipeline: Pipeline) -> FittedTransforms:
    values = records()
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    assert checked.rejected == []
    sketch = Sketch(pipeline)
    sketch.add(checked.batch, 0, np.zeros(len(checked.batch), np.int8))
    return fit(sketch.sides["train"], pipeline)


@pytest.fixture(scope="module")
def transforms() -> FittedTransforms:
    return fitted(pipeline_of("int64"))


@pytest.fixture(scope="module")
def bare(transforms: FittedTransforms) -> tuple[ServedModel, bytes]:
    """A model that answers with what its transforms make of a row, and its graph."""
    features = build_model(pipeline_of("int64"), transforms, 2).features
    width = transforms.width
    model = ServedClassifier(features, (width,), nn.Identity())
    return model, whole(with_logits(export_graph(model, list(range(width)), gaps(3)).data))


@pytest.fixture(scope="module")
def regressor(transforms: FittedTransforms) -> tuple[ServedModel, bytes]:
    torch.manual_seed(3)
    model = build_model(pipeline_of("float64"), transforms, SCALE)
    return model, whole(export_graph(model, (), gaps(3)).data)


@pytest.fixture(scope="module")
def classifier(transforms: FittedTransforms) -> bytes:
    torch.manual_seed(3)
    return whole(export_graph(build_model(pipeline_of("int64"), transforms, 3), [0, 1, 2], gaps(3)).data)


def gaps(rows: int) -> Columns:
    """Rows in which everything that may be missing is."""
    return {
        "length": np.full(rows, np.nan, np.float32),
        "far": np.full(rows, np.nan, np.float32),
        "wide": np.full(rows, np.nan),
        "rooms": np.full(rows, np.nan),
        "year": np.full(rows, 2000, np.uint16),
        "tame": np.zeros(rows, np.uint8),
        "ringed": np.full(rows, np.nan),
        "pair": np.full((rows, 2), np.nan, np.float32),
        "colour": np.full(rows, "", object),
        "size": np.full(rows, "", object),
        "sort": np.full(rows, "a", object),
    }


FLOAT32 = st.one_of(
    st.just(float("nan")), st.floats(width=32, allow_infinity=False), st.floats(-1e3, 1e3, width=32), st.just(1e6)
)
FLOAT64 = st.one_of(st.just(float("nan")), st.floats(allow_infinity=False), st.floats(-1e3, 1e3))
TEXT = st.one_of(st.just(""), st.sampled_from(COLOURS), st.sampled_from("SMLab"), st.text(max_size=6))
HOSTILE = st.lists(
    st.fixed_dictionaries(
        {
            "length": FLOAT32,
            "far": FLOAT32,
            "wide": FLOAT64,
            "rooms": st.one_of(st.just(float("nan")), st.integers(-(2**31), 2**31 - 1).map(float)),
            "year": st.integers(0, 65535),
            "tame": st.integers(0, 1),
            "ringed": st.sampled_from([0.0, 1.0, float("nan")]),
            "pair": st.tuples(FLOAT32, FLOAT32),
            "colour": TEXT,
            "size": TEXT,
            "sort": TEXT.filter(bool),
        }
    ),
    min_size=1,
    max_size=6,
)


def columns_of(rows: list[dict[str, Any]]) -> Columns:
    return {
        name: np.array([row[name] for row in rows], dtype=column.dtype).reshape(len(rows), *column.shape[1:])
        for name, column in gaps(1).items()
    }


@settings(max_examples=150, deadline=None)
@given(HOSTILE)
def test_what_is_trained_on_is_what_the_served_graph_makes(
    bare: tuple[ServedModel, bytes], rows: list[dict[str, Any]]
) -> None:
    model, graph = bare
    columns = columns_of(rows)

    (served,) = run_in_batches(open_graph(graph), columns, [LOGITS])

    np.testing.assert_array_equal(served, model.prepare(columns).numpy())


INFINITE = {"length": [np.inf], "far": [-np.inf], "wide": [np.inf], "rooms": [-np.inf], "pair": [[np.inf, -np.inf]]}


@settings(max_examples=100, deadline=None)
@given(HOSTILE)
def test_every_answer_is_a_number(
    classifier: bytes, regressor: tuple[ServedModel, bytes], rows: list[dict[str, Any]]
) -> None:
    infinite = gaps(1) | {name: np.array(value, gaps(1)[name].dtype) for name, value in INFINITE.items()}
    for columns in (columns_of(rows), infinite):
        (probabilities,) = run_in_batches(open_graph(classifier), columns, ["probabilities"])
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        assert np.isfinite(predict_numbers(regressor[1], columns)).all()


@settings(max_examples=100, deadline=None)
@given(HOSTILE)
def test_predictions_of_numbers_agree(regressor: tuple[ServedModel, bytes], rows: list[dict[str, Any]]) -> None:
    model, graph = regressor
    columns = columns_of(rows)

    with torch.no_grad():
        expected = model(model.prepare(columns)).numpy().astype(np.float64)
        terms = size_of_terms(model, columns)

    assert (np.abs(predict_numbers(graph, columns) - expected) <= 1e-5 * terms).all()


def size_of_terms(model: ServedModel, columns: Columns) -> np.ndarray[Any, Any]:
    """Return the sum of the sizes of what each prediction is summed up from, [rows].

    The rounding errors of a sum are a share of it, however small the sum itself is: Higham, Accuracy and Stability of
    Numerical Algorithms, section 3.1. Extreme values that nearly cancel each other differ in more digits than others.
    """
    sizes = model.prepare(columns).double().abs()
    for layer in model.network.modules():
        if isinstance(layer, nn.Linear):
            sizes = sizes @ layer.weight.double().abs().T + layer.bias.double().abs()
    return SCALE.mean + SCALE.deviation * sizes.squeeze(1).numpy()


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["float32", "float64", "int8", "int64", "uint32"]),
    st.floats(-1e38, 1e38),
    st.floats(min_value=1.2e-38, max_value=3e38),
    st.one_of(st.none(), st.floats(-1e38, 1e38)),
    st.lists(st.floats(-3.4e38, 3.4e38), min_size=1, max_size=5),
)
def test_any_fitted_transform_is_computed_closely_enough(
    kind: str, offset: float, scale: float, fill: float | None, values: list[float]
) -> None:
    wide = np.dtype("float64" if fill is not None and not kind.startswith("float") else kind)
    raw = np.array(values)
    if not kind.startswith("float"):
        limits = np.iinfo(kind)
        raw = np.clip(raw, float(limits.min), float(limits.max) / 2).astype(kind)
    column = raw.astype(wide)
    if fill is not None:
        column = np.append(column, np.nan).astype(wide)
    whole = np.array(offset), np.array(scale), None if fill is None else np.array(fill)

    computed = FittedTransform("x", "standard", *whole).apply(column)

    exact = np.where(np.isnan(column), fill or 0.0, column.astype(np.float64))
    with np.errstate(over="ignore"):
        expected = np.clip((exact - offset) / scale, -LARGEST, LARGEST)
    np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-5)


def test_gaps_and_strangers_have_their_places(bare: tuple[ServedModel, bytes], transforms: FittedTransforms) -> None:
    columns = gaps(2)
    columns["colour"][1], columns["size"][1], columns["sort"][1] = "never seen", "never seen", "never seen"
    colour, size = transforms["colour"], transforms["size"]
    assert isinstance(colour, FittedCategory)
    assert isinstance(size, FittedCategory)

    (served,) = run_in_batches(open_graph(bare[1]), columns, [LOGITS])

    numbers = served[0, :4].tolist()
    assert numbers[:2] == [0, 0]
    onehot = served[:, 9 : 9 + len(colour.categories)]
    assert onehot[0].tolist() == [float(category == colour.fill) for category in colour.categories]
    assert onehot[1].tolist() == [0.0] * len(colour.categories)
    ordinals = served[:, 9 + len(colour.categories)]
    assert ordinals.tolist() == [size.categories.index("unknown"), len(size.categories)]
    assert served[:, -2:].tolist() == [[1, 0], [0, 0]]


def test_texts_and_gaps_are_inputs_of_the_graph(bare: tuple[ServedModel, bytes]) -> None:
    model = onnx.load_from_string(bare[1])
    types = {each.name: each.type.tensor_type.elem_type for each in model.graph.input}

    assert list(types) == list(gaps(1))
    assert types["colour"] == types["sort"] == onnx.TensorProto.STRING
    assert types["rooms"] == onnx.TensorProto.DOUBLE
    assert types["year"] == onnx.TensorProto.UINT16
    assert (types["tame"], types["ringed"]) == (onnx.TensorProto.UINT8, onnx.TensorProto.DOUBLE)
    assert {each.type.tensor_type.shape.dim[0].dim_param for each in model.graph.input} == {"batch"}
    assert optional_inputs(bare[1]) == {"length", "far", "wide", "rooms", "ringed", "pair", "colour", "size"}


def test_a_regression_answers_in_the_labels_unit(
    regressor: tuple[ServedModel, bytes], transforms: FittedTransforms
) -> None:
    model, graph = regressor
    columns = gaps(40)
    columns["year"] = np.arange(1900, 1940).astype(np.uint16)
    predictions = predict_numbers(graph, columns)
    truth = predictions + np.tile([3.0, -4.0], 20)

    assert task_of_graph(graph).kind == "regression"
    assert [output.name for output in onnx.load_from_string(graph).graph.output] == ["prediction"]
    standardised = model.network(model.prepare(columns)).detach().numpy()[:, 0]
    np.testing.assert_allclose(predictions, standardised * 800 + 4200, rtol=1e-6)
    measured = evaluate(graph, columns, truth)
    assert set(measured) == {"rmse", "mae", "r2"}
    assert measured["rmse"] == pytest.approx(np.sqrt(12.5))
    assert measured["mae"] == pytest.approx(3.5)
    assert measured["r2"] == pytest.approx(1 - 12.5 / truth.var())
    assert len(latencies_ms([graph], columns, 1, 0.01)) == 1


@pytest.mark.parametrize(
    ("predictions", "truth", "expected"),
    [
        ([1, 2], [1, 2], (0, 0, 1)),
        ([5, 5], [5, 5], (0, 0, 1)),
        ([4, 6], [5, 5], (1, 1, 0)),
        ([2, 2], [1, 3], (1, 1, 0)),
    ],
)
def test_errors_by_hand(predictions: list[float], truth: list[float], expected: tuple[float, ...]) -> None:
    assert tuple(errors_of(np.array(predictions, float), np.array(truth, float)).values()) == expected


def test_equal_models_give_equal_bytes(regressor: tuple[ServedModel, bytes]) -> None:
    assert export_graph(regressor[0], (), gaps(2)).data == regressor[1]


def test_a_regression_that_differs_is_told(
    regressor: tuple[ServedModel, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(*arguments: Any) -> list[np.ndarray[Any, Any]]:
        return [run_in_batches(*arguments)[0] + 1]

    monkeypatch.setattr("headrace_learning.export.run_in_batches", shifted)

    with pytest.raises(ExportMismatch, match="answers differ"):
        export_graph(regressor[0], (), gaps(2))


def test_every_name_of_an_answer_is_reserved() -> None:
    assert {CLASSES, LABEL, LOGITS, PREDICTION, PROBABILITIES} == RESERVED


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_no_feature_is_called_as_answers_are(name: str) -> None:
    makers: list[Callable[[], object]] = [
        lambda: Feature(FittedTransform(name, "none", np.zeros(()), np.ones(())), "int8"),
        lambda: Feature(FittedCategory(name, "onehot", ("a",))),
    ]
    for make in makers:
        with pytest.raises(NotLearnable, match="belongs to the model's answers"):
            make()


def test_classes_are_told_of_texts_and_gaps(transforms: FittedTransforms) -> None:
    torch.manual_seed(1)
    model = build_model(pipeline_of("int64"), transforms, 3)
    columns = gaps(9)
    graph = export_graph(model, [0, 1, 2], columns).data

    answered = predict(graph, columns)

    assert np.isfinite(answered.probabilities).all()
    assert set(evaluate(graph, columns, answered.labels)) >= {"accuracy", "log_loss"}
