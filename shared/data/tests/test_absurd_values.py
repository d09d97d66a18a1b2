"""One absurd value costs its own row, and never a dataset; a blank text is a missing one, whatever its role."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.cleaning import clean
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.seen_keys import SeenKeys
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset

from .conftest import MemoryStore

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: absurd}}
stream:
  topic: absurd
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: writer, type: string, role: group}}
    - {{name: x, type: float64, role: feature, nullable: true}}
    - {{name: pair, type: float64, shape: [2], role: feature}}
    - {{name: near, type: float32, role: feature}}
    - {{name: colour, type: string, role: feature, nullable: true}}
    - {{name: y, type: {label}, role: label}}
prepare:
  clean: {{missing: keep}}
  transform:
    x: {{impute: mean, scale: {scale}}}
    pair: {{scale: {scale}}}
    near: {{scale: {scale}}}
    colour: {{impute: {{constant: unknown}}, encode: onehot}}
train: {{network: {{kind: mlp}}}}
"""


def pipeline_of(scale: str = "standard", label: str = "string") -> Pipeline:
    return load_pipeline(DOCUMENT.format(scale=scale, label=label))


def row(number: int, **values: object) -> bytes:
    sound = {"id": f"r{number}", "writer": f"w{number}", "x": number / 7, "pair": [1, number], "near": number}
    return json.dumps(sound | {"colour": "red", "y": "ab"[number % 2]} | values).encode()


def check(pipeline: Pipeline, *rows: bytes) -> tuple[pa.RecordBatch, list[tuple[str, str]]]:
    checked = RecordChecker(pipeline.stream).check(rows, [0] * len(rows), range(len(rows)))
    return checked.batch, [(each.rule, each.field) for each in checked.rejected]


@pytest.mark.parametrize("value", [1e300, -1e300, 1.5e250, 1.7976931348623157e308])
def test_a_value_that_nothing_can_be_scaled_beside_is_rejected_where_it_comes_in(value: float) -> None:
    pipeline = pipeline_of()
    batch, faults = check(pipeline, row(0), row(1, x=value), row(2, pair=[0, value]), row(3, x=1e100))
    assert faults == [("overflow", "x"), ("overflow", "pair")]
    assert batch.column("x").to_pylist() == [0.0, 1e100]
    numbers = pipeline_of(label="float64")
    assert check(numbers, row(0, y=value))[1] == [("overflow", "y")]
    (told,) = RecordChecker(pipeline.stream).check([row(1, x=1e300)], [0], [0]).rejected
    assert told.reason == "x: expected a value of at most 1e+250 in size, so that it can be scaled, got 1e+300"


@pytest.mark.parametrize("scale", ["standard", "minmax", "robust", "none"])
@pytest.mark.parametrize("label", ["string", "float64"])
def test_whatever_is_taken_in_can_be_frozen(scale: str, label: str) -> None:
    pipeline = pipeline_of(scale, label)
    extremes = [1e100, -1e100, 5e-324, 0.0]
    rows = [
        row(
            number,
            x=extremes[number % 4],
            pair=[extremes[number % 4], -1e100],
            near=[3.4e38, -3.4e38, 1e-45][number % 3],
            **({"y": extremes[number % 4]} if label == "float64" else {}),
        )
        for number in range(200)
    ]
    batch, faults = check(pipeline, *rows)
    assert not faults

    writer = SegmentWriter(pipeline, store := MemoryStore())
    writer.add(batch)
    manifest = only_dataset(
        writer.finish(Provenance(cluster_id="c", topic="t", topic_id="", sources=(), clean_ranges=(), rejected={})),
        pipeline,
        store,
    )

    columns = DatasetReader(manifest, store).columns("train")
    for name in ("x", "pair", "near"):
        assert np.isfinite(manifest.transforms[name].apply(columns[name])).all()


@pytest.mark.parametrize(("scale", "field"), [("standard", "pair"), ("minmax", "x"), ("minmax", "y")])
def test_what_would_be_squared_or_summed_is_dropped_from_a_smaller_size_on(scale: str, field: str) -> None:
    pipeline = pipeline_of(scale, "float64")
    far: object = [1.0, 1e200] if field == "pair" else 1e200
    batch, faults = check(pipeline, row(0, y=1.5), row(1, **({"y": 1.5} | {field: far})))
    assert not faults

    cleaned = clean(batch, pipeline, SeenKeys(10))

    assert [(each.position, each.rule, each.field) for each in cleaned.dropped] == [(1, "overflow", field)]
    assert cleaned.dropped[0].reason.endswith("at most 1e+100 in size, got 1e+200")


def test_rows_of_before_that_check_are_dropped_when_they_are_cleaned() -> None:
    pipeline = pipeline_of()
    batch, _ = check(pipeline, *map(row, range(3)))
    place = batch.schema.get_field_index("x")
    batch = batch.set_column(place, batch.schema.field(place), pa.array([1.0, 1e300, None]))

    cleaned = clean(batch, pipeline, SeenKeys(10))

    assert [(each.position, each.rule, each.field) for each in cleaned.dropped] == [(1, "overflow", "x")]
    assert cleaned.batch.column("id").to_pylist() == ["r0", "r2"]


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u00a0", "\u3000 "])
@pytest.mark.parametrize("field", ["id", "writer", "y"])
def test_a_blank_text_is_missing_whatever_its_role(field: str, blank: str) -> None:
    assert check(pipeline_of(), row(0), row(1, **{field: blank}))[1] == [("missing", field)]


@pytest.mark.parametrize("blank", ["", " ", "\u00a0\t"])
def test_a_blank_category_that_may_be_missing_is_filled(blank: str) -> None:
    pipeline = pipeline_of()
    batch, faults = check(pipeline, *(row(number, colour=blank if number % 3 else "red") for number in range(90)))
    assert not faults
    writer = SegmentWriter(pipeline, store := MemoryStore())
    writer.add(clean(batch, pipeline, SeenKeys(100)).batch)
    manifest = only_dataset(
        writer.finish(Provenance(cluster_id="c", topic="t", topic_id="", sources=(), clean_ranges=(), rejected={})),
        pipeline,
        store,
    )

    assert manifest.transforms["colour"].to_plain()["categories"] == ["red", "unknown"]
    assert set(DatasetReader(manifest, store).columns("train")["colour"]) == {"red", ""}


def test_a_blank_category_is_dropped_where_missing_rows_are() -> None:
    document = DOCUMENT.format(scale="standard", label="string").replace("missing: keep", "missing: drop")
    pipeline = load_pipeline(document)
    batch, _ = check(pipeline, row(0), row(1, colour=" "), row(2, colour=None))
    assert clean(batch, pipeline, SeenKeys(10)).counts == {"missing": 2}
