"""A category encoded by the label: by hand, out of fold, and what it is worth against texts that tell nothing."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.fitting import fit
from headrace_data.folds import FOLD, FOLDS, folds_of
from headrace_data.label_sums import LabelSums
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.sketch_files import from_bytes, to_bytes
from headrace_data.sketches import Sketch
from headrace_data.spec import Pipeline, SpecInvalid, load_pipeline
from headrace_data.transforms import target
from headrace_data.transforms.target import FittedTarget
from headrace_data.windows import only_dataset

from .conftest import MemoryStore

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: towns}}
stream:
  topic: towns
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: town, type: string, role: feature{nullable}}}
    - {{name: y, type: {label}, role: label}}
prepare:
  clean: {{missing: {missing}}}
  transform: {{town: {{encode: {encode}{impute}}}}}
train: {{network: {{kind: mlp}}}}
"""


def pipeline_of(label: str = "float64", encode: str = "target", impute: str = "") -> Pipeline:
    nullable, missing = (", nullable: true", "keep") if impute else ("", "drop")
    text = DOCUMENT.format(label=label, encode=encode, impute=impute, nullable=nullable, missing=missing)
    return load_pipeline(text)


def batch_of(pipeline: Pipeline, rows: list[tuple[str | None, object]]) -> pa.RecordBatch:
    values = [json.dumps({"id": place, "town": town, "y": label}).encode() for place, (town, label) in enumerate(rows)]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), list(range(len(values))))
    assert checked.rejected == []
    return checked.batch


def fitted(pipeline: Pipeline, rows: list[tuple[str | None, object]], cuts: int = 1) -> tuple[FittedTarget, np.ndarray]:
    """Return the transform of rows that are all learned from, in several segments, and the fold of each."""
    batch, whole = batch_of(pipeline, rows), Sketch(pipeline)
    for places in np.array_split(np.arange(len(batch)), cuts):
        sketch = Sketch(pipeline)
        part = batch.take(pa.array(places))
        sketch.add(part, 0, np.zeros(len(part), np.int8))
        whole.merge(from_bytes(to_bytes(sketch), pipeline))
    found = fit(whole.sides["train"], pipeline)["town"]
    assert isinstance(found, FittedTarget)
    return found, folds_of(batch)


ROWS: list[tuple[str | None, object]] = [
    ("Bergen", 4.0),
    ("Oslo", 1.0),
    ("Oslo", 3.0),
    ("Oslo", 5.0),
    ("Rome", 7.0),
] * 8


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_category_becomes_the_labels_mean_drawn_to_that_of_all(cuts: int) -> None:
    found, folds = fitted(pipeline_of(encode="{kind: target, smoothing: 8}"), ROWS, cuts)

    # The mean of all is 4; Oslo's is 3, of 24 rows beside 8 of the mean; Rome's is 7, of 8.
    means = np.array([4.0, (24 * 3 + 8 * 4) / 32, (8 * 7 + 8 * 4) / 16])
    deviation = np.sqrt((8 * 0 + 24 * (means[1] - 4) ** 2 + 8 * (means[2] - 4) ** 2) / 40)
    wanted = (means - 4) / deviation
    np.testing.assert_allclose(found.apply(["Bergen", "Oslo", "Rome", "Paris"])[:, 0], [*wanted, 0.0], rtol=1e-6)

    towns = np.array([town for town, _ in ROWS], dtype=object)
    labels = np.array([label for _, label in ROWS])
    for fold in range(FOLDS):
        others = (towns == "Oslo") & (folds != fold)
        mean = (labels[others].sum() + 8 * 4) / (others.sum() + 8)
        inputs = found.apply_training(towns[folds == fold], folds[folds == fold])
        np.testing.assert_allclose(inputs[towns[folds == fold] == "Oslo", 0], (mean - 4) / deviation, rtol=1e-6)


def test_classes_become_their_shares() -> None:
    rows: list[tuple[str | None, object]] = [("a", "x"), ("a", "y"), ("b", "y"), ("b", "z")] * 20
    three, _ = fitted(pipeline_of("string", "{kind: target, smoothing: 0}"), rows)
    assert three.width == 3
    np.testing.assert_allclose(three.mean, [0.25, 0.5, 0.25])
    # Every class of a is that of b the other way round, but for y, whose share is the same in both.
    np.testing.assert_allclose(three.apply(["a", "b", "new"]), [[1, 0, -1], [-1, 0, 1], [0, 0, 0]], atol=1e-6)

    two, _ = fitted(pipeline_of("bool", "{kind: target, smoothing: 0}"), [(t, y != "y") for t, y in rows])
    assert two.width == 1
    np.testing.assert_allclose(two.mean, [0.5])


def test_numbers_that_are_classes_become_shares_where_these_are_asked_for() -> None:
    rows: list[tuple[str | None, object]] = [("a", 0), ("a", 1), ("b", 2), ("b", 2)] * 20
    assert fitted(pipeline_of("int64", "target"), rows)[0].width == 1
    assert fitted(pipeline_of("int64", "{kind: target, of: shares}"), rows)[0].width == 3
    with pytest.raises(DatasetUnusable, match=r"expected at most 20 classes.*'town'.*got 21: .*`of: mean`"):
        fitted(pipeline_of("int64", "{kind: target, of: shares}"), [("a", place % 21) for place in range(210)])


def test_as_many_categories_as_there_may_be_are_all_summed_up_beside_missing_ones() -> None:
    pipeline = pipeline_of(impute=", impute: {constant: nowhere}")
    sums, batch = (
        LabelSums("town", "y", 3, classes=False),
        batch_of(pipeline, [("a", 1), ("b", 2), ("c", 3), (None, 4)]),
    )
    for _ in range(2):
        sums.add(batch, 0, np.zeros(4, np.int64))
    assert sorted(sums.found()) == [
        (("", 0, ""), 2, 8),
        (("a", 0, ""), 2, 2),
        (("b", 0, ""), 2, 4),
        (("c", 0, ""), 2, 6),
    ]
    sums.add(batch_of(pipeline, [("d", 1)]), 0, np.zeros(1, np.int64))
    sums.add(batch, 0, np.zeros(4, np.int64))
    assert (("a", 0, ""), 2, 2.0) in list(sums.found())


def test_of_more_classes_than_become_shares_no_more_sums_are_kept() -> None:
    pipeline = pipeline_of("string")
    sketch = Sketch(pipeline)
    for start in range(0, 400, 40):
        batch = batch_of(pipeline, [(f"t{place}", f"c{place}") for place in range(start, start + 40)])
        sketch.add(batch, 0, np.zeros(len(batch), np.int8))
    whole = from_bytes(to_bytes(sketch), pipeline)
    whole.merge(from_bytes(to_bytes(sketch), pipeline))
    assert len(list(whole.sides["train"].sums["town"].found())) == 40
    with pytest.raises(DatasetUnusable, match="expected at most 20 classes, whose shares 'town' becomes"):
        fit(whole.sides["train"], pipeline)


def test_what_is_missing_is_what_stands_for_it_and_rare_ones_are_as_unknown() -> None:
    rows: list[tuple[str | None, object]] = [(None, 1.0), ("none", 3.0), ("Oslo", 5.0), (" ", 1.0), ("Rome", 90.0)]
    rows = [*rows[:4] * 10, rows[4]]
    pipeline = pipeline_of(encode="{kind: target, maxCategories: 2}", impute=", impute: {constant: none}")
    found, _ = fitted(pipeline, rows)

    assert found.categories == ("Oslo", "none")
    assert found.rows.sum(axis=1).tolist() == [10.0, 30.0]
    assert found.sums.sum(axis=(1, 2)).tolist() == [50.0, 50.0]
    # Rome is in the mean of all, and has no place of its own.
    np.testing.assert_allclose(found.mean, [190 / 41])
    assert found.apply(["Rome", "never"]).tolist() == [[0.0], [0.0]]
    assert found.apply([None, "", "none"])[:, 0].tolist() == [found.apply(["none"])[0, 0]] * 3
    assert found.optional


@pytest.mark.parametrize("label", ["float64", "bool"])
def test_texts_that_tell_nothing_tell_a_training_row_nothing(label: str) -> None:
    random = np.random.default_rng(5)
    towns = [f"town {place}" for place in random.integers(0, 1500, 4000)]
    truth = random.integers(0, 2, 4000).astype(float)
    rows = [(town, bool(y) if label == "bool" else y) for town, y in zip(towns, truth, strict=True)]
    found, folds = fitted(pipeline_of(label, "{kind: target, smoothing: 1}"), list(rows[:2000]))

    def correlation(inputs: np.ndarray, labels: np.ndarray) -> float:
        return abs(float(np.corrcoef(inputs[:, 0], labels)[0, 1]))

    # With its own label in it each row of the split seems to be known, and no other row is.
    assert correlation(found.apply(towns[:2000]), truth[:2000]) > 0.6
    assert correlation(found.apply(towns[2000:]), truth[2000:]) < 0.06
    assert correlation(found.apply_training(towns[:2000], folds), truth[:2000]) < 0.06


def test_folds_are_those_of_the_sketch_whichever_way_rows_are_read(provenance: Provenance) -> None:
    pipeline, store = pipeline_of(), MemoryStore()
    random = np.random.default_rng(2)
    rows: list[tuple[str | None, object]] = [(f"t{random.integers(9)}", float(random.normal())) for _ in range(300)]
    writer = SegmentWriter(pipeline, store, 64)
    writer.add(batch_of(pipeline, rows))
    manifest = Manifest.from_json(only_dataset(writer.finish(provenance), pipeline, store).to_json())
    reader = DatasetReader(manifest, store)

    held, first = reader.columns("train"), [reader.encoded(group) for part in reader.parts("train") for group in part()]
    again = [reader.encoded(group) for part in reader.parts("train") for group in part()]

    assert set(held) == {"town", "y", FOLD}
    assert {FOLD} == set(held) - set(reader.columns("test"))
    for streamed in (first, again):
        np.testing.assert_array_equal(np.concatenate([each[FOLD] for each in streamed]), held[FOLD])
    transforms = manifest.transforms
    found = transforms["town"]
    assert isinstance(found, FittedTarget)
    counted = np.zeros((len(found.categories), FOLDS))
    np.add.at(counted, (found.codes(held["town"]), held[FOLD]), 1)
    np.testing.assert_array_equal(counted, found.rows)
    inputs = np.concatenate([transforms.apply_training(each) for each in first])
    np.testing.assert_array_equal(inputs, transforms.apply_training(held))
    assert (transforms.apply(held) != inputs).any()


@pytest.mark.parametrize(
    ("label", "encode", "told"),
    [
        ("float64", "{kind: target, of: shares}", "encode.of: expected mean for a label of type float64, got shares"),
        ("string", "{kind: target, of: mean}", "encode.of: expected shares for a label of type string, got mean"),
        ("string", "{kind: target, smoothing: -1}", "smoothing: expected greater than or equal to 0"),
        ("string", "{kind: target, maxCategories: 10001}", "maxCategories: expected less than or equal to 10000"),
    ],
)
def test_what_no_label_can_be_is_refused(label: str, encode: str, told: str) -> None:
    with pytest.raises(SpecInvalid, match=told):
        pipeline_of(label, encode)


@pytest.mark.parametrize(
    "change",
    [{"rows": [[1.0]]}, {"sums": None}, {"mean": [[1.0]]}, {"scale": [float("nan")]}, {"smoothing": -1}, {"name": 3}],
)
def test_what_is_no_such_transform_is_refused(change: dict[str, object]) -> None:
    found, _ = fitted(pipeline_of(), ROWS)
    assert target.read(found.to_plain()).to_plain() == found.to_plain()
    with pytest.raises(ManifestInvalid):
        target.read(found.to_plain() | change)
