"""What every kind of transform promises: a fit that merges, and a graph that computes what training sees."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from headrace_data.fitting import fit
from headrace_data.records import RecordChecker
from headrace_data.sketch_files import from_bytes, to_bytes
from headrace_data.sketches import Side, Sketch
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.spec.transform import ENCODES_TEXTS
from headrace_data.transforms import TRANSFORMS, FittedTransforms
from headrace_engines.model import run_in_batches
from headrace_learning.building import features_of
from headrace_learning.evaluation import open_graph
from headrace_learning.export import export_graph
from headrace_learning.graphs import LOGITS, with_logits
from headrace_learning.served import ServedClassifier
from torch import nn

Columns = dict[str, np.ndarray[Any, Any]]
DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: kinds}}
stream:
  topic: kinds
  schema:
    - {{name: id, type: int64, role: id}}
{fields}
    - {{name: y, type: string, role: label}}
prepare:
  clean: {{missing: keep}}
  transform:
{transforms}
train: {{network: {{kind: mlp}}}}
"""
NUMBERS = ["float32", "float64", "int32", "uint8"]
WORDS = ["red", "grün", "zero\u0000inside", "😀", "e\u0301", "\u00e9", "null", "UPPER"]
STRANGERS = ["never seen", " ", "\t", "a" * 300, "red ", "Red", "\u202ered"]
CHOICES = {
    "none": ["scale: none"],
    "standard": ["scale: standard"],
    "minmax": ["scale: minmax"],
    "robust": ["scale: robust"],
    "log": ["scale: log"],
    "winsorize": ["scale: winsorize", "scale: {kind: winsorize, low: 0.2, high: 0.7}"],
    "quantile": ["scale: quantile", "scale: {kind: quantile, to: uniform}"],
    "buckets": ["encode: buckets", "encode: {kind: buckets, edges: [-3, 0, 2.5]}"],
    "cyclic": ["encode: {kind: cyclic, periods: [24, 0.7]}"],
    "onehot": ["encode: onehot", "encode: {kind: onehot, maxCategories: 3}", "encode: {kind: onehot, minCount: 20}"],
    "ordinal": ["encode: ordinal", "encode: {kind: ordinal, maxCategories: 3}"],
    "hash": ["encode: hash", "encode: {kind: hash, inputs: 7}"],
    "target": [
        "encode: target",
        "encode: {kind: target, smoothing: 0, maxCategories: 3}",
    ],
    "text": [],  # a network makes its inputs: see test_encoder.py
}
"""What a spec says for each kind, in every form."""
CASES = [pytest.param(choice, kind in ENCODES_TEXTS, id=choice) for kind in TRANSFORMS for choice in CHOICES[kind]]


def pipeline_of(choice: str, *, text: bool) -> Pipeline:
    types = ["string"] if text else NUMBERS
    impute = "{constant: none}" if text else "median"
    fields = [f"    - {{name: {each}, type: {each}, role: feature, nullable: true}}" for each in types]
    fields += [f"    - {{name: whole.{each}, type: {each}, role: feature}}" for each in types]
    transforms = [f"    {each}: {{impute: {impute}, {choice}}}" for each in types]
    transforms += [f"    whole.{each}: {{{choice}}}" for each in types]
    return load_pipeline(DOCUMENT.format(fields="\n".join(fields), transforms="\n".join(transforms)))


def value_of(name: str, random: np.random.Generator, unit: float = 1.0) -> Any:
    if name.endswith("string"):
        return WORDS[min(int(random.geometric(0.4)), len(WORDS)) - 1]
    if name.endswith("uint8"):
        return int(random.integers(0, 5))
    number = float(random.lognormal(3, 1.5)) * (1 if random.random() < 0.8 else -1)
    return int(number) if name.endswith("int32") else number * unit


def sketched(pipeline: Pipeline, parts: Sequence[Sequence[int]], unit: float) -> list[Sketch]:
    """Return a sketch of each part: rows by their numbers, each part of one producers' partition."""
    sketches = []
    for part in parts:
        rows = []
        for number in part:
            random = np.random.default_rng(number)
            row = {"id": number, "y": "ab"[int(random.integers(0, 2))]}
            for field in pipeline.stream.features:
                missing = field.nullable and random.random() < 0.2
                row[field.name] = None if missing else value_of(field.name, random, unit)
            rows.append(json.dumps(row).encode())
        checked = RecordChecker(pipeline.stream).check(rows, [0] * len(rows), list(part))
        assert checked.rejected == []
        sketch = Sketch(pipeline)
        sketch.add(checked.batch, 0, np.zeros(len(checked.batch), np.int8))
        sketches.append(sketch)
    return sketches


def training(pipeline: Pipeline, parts: Sequence[Sequence[int]], unit: float = 1.0) -> Side:
    """Return what is known of rows in several parts, each kept as a file meanwhile; fractions are in this unit."""
    whole = Sketch(pipeline)
    for sketch in sketched(pipeline, parts, unit):
        whole.merge(from_bytes(to_bytes(sketch), pipeline))
    return whole.sides["train"]


@pytest.mark.parametrize(("choice", "text"), CASES)
def test_a_fit_of_merged_segments_is_that_of_all_rows(choice: str, text: bool) -> None:
    pipeline = pipeline_of(choice, text=text)

    whole = fit(training(pipeline, [range(300)]), pipeline)
    merged = fit(training(pipeline, [range(200, 300), range(200)]), pipeline)

    assert almost(whole.to_plain(), merged.to_plain())
    assert FittedTransforms.from_plain(json.loads(json.dumps(whole.to_plain()))).to_plain() == whole.to_plain()


def almost(one: Any, other: Any) -> bool:
    """Return whether JSON values are alike but for the rounding of sums in another order."""
    if isinstance(one, float):
        return isinstance(other, float) and bool(np.isclose(one, other, rtol=1e-9, atol=1e-12))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(almost(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(almost, one, other))
    return bool(one == other)


def hostile(pipeline: Pipeline, fitted: FittedTransforms, unit: float) -> Columns:
    """Return rows that no training split has: extremes, the borders of what was fitted, strangers and gaps."""
    columns: Columns = {}
    for field in pipeline.stream.features:
        optional = fitted[field.name].optional
        if field.type == "string":
            texts = [*WORDS, *STRANGERS, *([""] if optional else [])]
            columns[field.name] = np.array(texts, dtype=object)
            continue
        usual = [value_of(field.name, np.random.default_rng(number), unit) for number in range(40)]
        dtype: Any = field.dtype
        if dtype.kind == "f":
            limits = np.finfo(dtype)
            extremes = [0.0, -0.0, 1e-30, -1.0, 1e6, 1e18, float(limits.max), float(limits.min), float(limits.tiny)]
            extremes += [np.inf, -np.inf]
        else:
            extremes = [0, 1, int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)]
        values = np.array([*usual, *extremes], dtype)
        if optional:
            wide = dtype if dtype.kind == "f" else np.float64
            values = np.append(values, np.nan).astype(wide)
        columns[field.name] = values
    rows = max(map(len, columns.values()))
    return {name: np.resize(column, rows) for name, column in columns.items()}


@pytest.mark.parametrize("unit", [1.0, 1e-17])
@pytest.mark.parametrize(("choice", "text"), CASES)
def test_a_graph_makes_of_hostile_rows_what_training_sees(choice: str, text: bool, unit: float) -> None:
    pipeline = pipeline_of(choice, text=text)
    fitted = fit(training(pipeline, [range(300)], unit), pipeline)
    features = features_of(pipeline, fitted)
    model = ServedClassifier(features, (fitted.width,), nn.Identity())
    columns = hostile(pipeline, fitted, unit)
    few = {name: column[:3] for name, column in columns.items()}

    graph = with_logits(export_graph(model, list(range(fitted.width)), few).data)
    (served,) = run_in_batches(open_graph(graph), columns, [LOGITS])

    expected = fitted.apply(columns)
    assert expected.shape == (len(served), fitted.width)
    assert np.isfinite(expected).all()
    assert len(np.unique(expected, axis=0)) > 3
    np.testing.assert_allclose(served, expected, rtol=1e-5, atol=1e-5)
