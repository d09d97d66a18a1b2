"""Filling, encoding and robust scaling: what is fitted on a table with gaps, and what a dataset makes of it."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.cleaning import clean
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.fitting import fit
from headrace_data.identity import RowsIdentity
from headrace_data.manifest import Manifest, Provenance
from headrace_data.parts import Blob
from headrace_data.records import RecordChecker
from headrace_data.sampling import most_frequent
from headrace_data.seen_keys import SeenKeys
from headrace_data.segments import SegmentWriter
from headrace_data.sketches import MAX_CATEGORIES, MAX_CLASSES, Sketch
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.transforms import UNSEEN, FittedCategory, FittedTransform, FittedTransforms
from headrace_data.windows import only_dataset

TABLE = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: table}}
stream:
  topic: table
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: length, type: float32, role: feature, nullable: true}}
    - {{name: rooms, type: int64, role: feature, nullable: true}}
    - {{name: pair, type: float64, shape: [2], role: feature, nullable: true}}
    - {{name: colour, type: string, role: feature, nullable: true}}
    - {{name: y, type: {label}, role: label}}
prepare:
  clean: {{missing: keep}}
  split: {{train: 0.6, validation: 0.2, test: 0.2}}
  transform:
    length: {{impute: {length}, scale: {scale}}}
    rooms: {{impute: mostFrequent}}
    pair: {{impute: mean, scale: standard}}
    colour: {{impute: {colour}, encode: {encode}}}
train: {{network: {{kind: mlp}}, task: {task}}}
"""
Row = dict[str, Any]


class Memory:
    """A store in memory."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def put(self, data: bytes) -> Blob:
        from headrace_data.canonical import sha256_digest
        from headrace_data.manifest import Part

        digest = sha256_digest(data)
        self.blobs[digest] = data
        return Part(uri=digest, digest=digest, size_bytes=len(data), rows=0, partition=0, first_offset=0, last_offset=0)

    def get(self, blob: Blob) -> bytes:
        return self.blobs[blob.uri]


def table(**choices: str) -> Pipeline:
    defaults = {
        "label": "int64",
        "length": "median",
        "scale": "robust",
        "colour": "mostFrequent",
        "encode": "onehot",
        "task": "classification",
    }
    return load_pipeline(TABLE.format(**(defaults | choices)))


def row(place: int, **values: Any) -> Row:
    return {"id": place, "length": 1, "rooms": 1, "pair": [1, 2], "colour": "red", "y": place % 2} | values


def batch_of(pipeline: Pipeline, rows: Sequence[Row]) -> pa.RecordBatch:
    values = [json.dumps(each).encode() for each in rows]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    assert checked.rejected == []
    return checked.batch


def fitted(pipeline: Pipeline, rows: Sequence[Row]) -> FittedTransforms:
    batch, sketch = batch_of(pipeline, rows), Sketch(pipeline)
    sketch.add(batch, 0, np.zeros(len(batch), np.int8))
    return fit(sketch.sides["train"], pipeline)


def frozen(pipeline: Pipeline, rows: Sequence[Row]) -> DatasetReader:
    store = Memory()
    writer = SegmentWriter(pipeline, store)
    writer.add(batch_of(pipeline, rows))
    empty = Provenance(cluster_id="c", topic="t", topic_id="", sources=(), clean_ranges=(), rejected={})
    manifest = Manifest.from_json(only_dataset(writer.finish(empty), pipeline, store).to_json())
    return DatasetReader(manifest, store)


def number(transforms: FittedTransforms, name: str) -> FittedTransform:
    found = transforms[name]
    assert isinstance(found, FittedTransform)
    return found


def category(transforms: FittedTransforms, name: str = "colour") -> FittedCategory:
    found = transforms[name]
    assert isinstance(found, FittedCategory)
    return found


def test_missing_values_have_no_part_in_the_statistics() -> None:
    lengths = [None, 1, 2, 2, None, 9, 4]
    rows = [row(place, length=length, rooms=length, pair=None) for place, length in enumerate(lengths)]
    rows += [row(9, length=None, rooms=None, pair=[3, 5]), row(10, length=None, rooms=None, pair=[5, 5])]

    found = fitted(table(), rows)

    length, pair = number(found, "length"), number(found, "pair")
    assert length.fill == length.offset == 2
    assert length.scale == np.subtract(*np.quantile([1, 2, 2, 9, 4], [0.75, 0.25]))
    assert number(found, "rooms").fill == 2
    assert pair.fill is not None
    assert pair.fill.tolist() == pair.offset.tolist() == [4, 5]
    assert pair.scale.tolist() == [1, 1]
    assert length.apply(np.array([np.nan, 2, 4], np.float32)).tolist() == [0, 0, 1]
    assert pair.apply(np.array([[np.nan, 6], [5, np.nan]])).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("impute", "expected"), [("mean", 4.0), ("median", 2.5), ("{constant: -7}", -7.0)])
def test_each_statistic_fills(impute: str, expected: float) -> None:
    rows = [row(place, length=length) for place, length in enumerate([1, 2, 3, 10, None])]

    assert number(fitted(table(length=impute, scale="none"), rows), "length").fill == expected


def test_the_smallest_of_the_most_frequent_fills() -> None:
    values = np.array([[3.0, 1.0], [2.0, 1.0], [3.0, 5.0], [2.0, 5.0], [9.0, 5.0]])

    assert most_frequent(values).tolist() == [2.0, 5.0]


def test_categories_are_sorted_and_what_fills_is_one_only_where_something_is_missing() -> None:
    colours = ["red", "blue", "äther", "blue", "red", None, ""]
    rows = [row(place, colour=colour) for place, colour in enumerate(colours)]

    assert category(fitted(table(), rows)) == FittedCategory("colour", "onehot", ("blue", "red", "äther"), "blue")
    with_constant = category(fitted(table(colour="{constant: none}"), rows))
    assert with_constant.categories == ("blue", "none", "red", "äther")
    assert with_constant.codes(["", "none", "red", "pink", None]).tolist() == [1, 1, 2, UNSEEN, 1]
    complete = category(fitted(table(colour="{constant: none}"), rows[:5]))
    assert complete.categories == ("blue", "red", "äther")
    assert complete.codes(["", "red"]).tolist() == [UNSEEN, 1]


def test_an_unseen_category_is_all_zeros_or_has_its_own_index() -> None:
    rows = [row(place, colour=colour) for place, colour in enumerate(["b", "a", "c", "c"])]
    texts = ["a", "c", "zebra", ""]

    assert category(fitted(table(), rows)).apply(texts).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert category(fitted(table(encode="ordinal"), rows)).apply(texts).tolist() == [0, 2, 3, 2]


def test_too_many_categories_and_nothing_at_all_are_errors() -> None:
    many = [row(place, colour=f"colour {place}") for place in range(MAX_CATEGORIES + 1)]

    with pytest.raises(DatasetUnusable, match=f"at most {MAX_CATEGORIES} categories of 'colour'"):
        fitted(table(), many)
    assert len(category(fitted(table(), many[1:])).categories) == MAX_CATEGORIES
    with pytest.raises(DatasetUnusable, match="values of 'colour' in split train, got missing ones only"):
        fitted(table(), [row(0, colour=None)])
    with pytest.raises(DatasetUnusable, match="values of 'length' in split train, got missing ones only"):
        fitted(table(length="{constant: 1}"), [row(0, length=None)])
    assert number(fitted(table(length="{constant: 1}", scale="none"), [row(0, length=None)]), "length").fill == 1
    assert category(fitted(table(colour="{constant: x}"), [row(0, colour=None)])).categories == ("x",)


def test_fitted_transforms_survive_json_and_older_ones_can_be_read() -> None:
    rows = [row(place, length=place / 7, colour="ab\u0000ü😀"[place]) for place in range(5)]
    found = fitted(table(), rows)

    assert FittedTransforms.from_plain(json.loads(json.dumps(found.to_plain()))) == found
    old = {"name": "x", "kind": "minmax", "shape": [], "offset": [0.5], "scale": [2.0]}
    assert FittedTransforms.from_plain([old]).to_plain() == [old]
    assert not FittedTransforms.from_plain([old])["x"].optional


@pytest.mark.parametrize(
    "change",
    [
        {"encode": "hash"},
        {"categories": []},
        {"categories": ["b", "a"]},
        {"categories": ["a", "a"]},
        {"categories": ["a", 1]},
        {"categories": None},
        {"fill": 3},
        {"name": None},
    ],
)
def test_categories_that_cannot_be_read_are_refused(change: dict[str, object]) -> None:
    good = {"name": "x", "encode": "onehot", "categories": ["a", "b"], "fill": "a"}
    FittedTransforms.from_plain([good])

    with pytest.raises(ManifestInvalid):
        FittedTransforms.from_plain([good | change])
    with pytest.raises(ManifestInvalid):
        FittedTransforms.from_plain(
            [{"name": "x", "kind": "none", "shape": [], "offset": [0.0], "scale": [1.0], "fill": [float("inf")]}]
        )


def test_a_null_is_another_row_than_a_zero_or_an_empty_text() -> None:
    pipeline = table()
    roots = set()
    for values in (
        {},
        {"length": 0},
        {"length": None},
        {"rooms": None},
        {"rooms": 0},
        {"colour": ""},
        {"colour": None},
    ):
        identity = RowsIdentity(pipeline.stream)
        identity.add(batch_of(pipeline, [row(1, **values)]))
        roots.add(identity.root())

    assert len(roots) == 7


def test_a_dataset_gives_gaps_as_a_model_is_called_with_them() -> None:
    gaps: dict[int, dict[str, Any]] = {
        3: {"length": None, "pair": None},
        5: {"rooms": None, "colour": None},
        7: {"colour": ""},
    }
    reader = frozen(table(), [row(place, **gaps.get(place % 10, {})) for place in range(100)])
    columns = reader.columns("train")

    assert columns["length"].dtype == np.float32
    assert columns["rooms"].dtype == columns["pair"].dtype == np.float64
    assert columns["y"].dtype == np.int64
    assert np.isnan(columns["length"]).sum() == np.isnan(columns["pair"]).all(axis=1).sum() > 0
    assert set(columns["rooms"][~np.isnan(columns["rooms"])]) == {1}
    assert np.isnan(columns["rooms"]).any()
    assert set(columns["colour"]) == {"red", ""}
    assert reader.manifest.classes == (0, 1)


def test_cleaning_takes_an_empty_category_for_a_missing_one() -> None:
    document = TABLE.replace("missing: keep", "missing: drop")
    pipeline = load_pipeline(
        document.format(
            label="int64", length="mean", scale="none", colour="mostFrequent", encode="onehot", task="classification"
        )
    )
    rows = [row(0), row(1, colour=""), row(2, colour=None), row(3, length=None)]

    cleaned = clean(batch_of(pipeline, rows), pipeline, SeenKeys(10))

    assert cleaned.batch.column("id").to_pylist() == [0]
    assert [(each.position, each.field) for each in cleaned.dropped] == [(1, "colour"), (2, "colour"), (3, "length")]


def test_a_category_that_must_be_there_may_not_be_blank() -> None:
    document = TABLE.replace(
        "colour, type: string, role: feature, nullable: true", "colour, type: string, role: feature"
    )
    pipeline = load_pipeline(
        document.replace("impute: {colour}, ", "").format(
            label="int64", length="mean", scale="none", encode="onehot", task="classification"
        )
    )
    values = [json.dumps(row(place, colour=colour)).encode() for place, colour in enumerate(["red", "", " "])]

    checked = RecordChecker(pipeline.stream).check(values, [0] * 3, range(3))

    assert checked.batch.column("colour").to_pylist() == ["red"]
    assert [(each.rule, each.reason) for each in checked.rejected] == [
        ("missing", "colour: expected a category, got an empty text"),
        ("missing", "colour: expected a category, got a blank text"),
    ]


@pytest.mark.parametrize(("label", "labels"), [("float32", [0.5, 1.25]), ("int64", range(MAX_CLASSES + 5))])
def test_a_regression_needs_no_classes(label: str, labels: Sequence[float]) -> None:
    pipeline = table(label=label, task="regression")
    rows = [row(place, y=labels[place % len(labels)]) for place in range(max(60, len(labels)))]

    reader = frozen(pipeline, rows)

    assert reader.manifest.classes == ()
    assert set(reader.columns("train")["y"]) <= set(labels)
    with pytest.raises(DatasetUnusable, match="two distinct values"):
        frozen(pipeline, [row(place, y=1) for place in range(60)])


def test_a_regression_of_few_whole_numbers_knows_them_for_a_classification_to_come() -> None:
    reader = frozen(table(task="regression"), [row(place, y=place % 3) for place in range(60)])

    assert reader.manifest.classes == (0, 1, 2)
