"""What training leaves out for its values: bounds by hand, and datasets that do not depend on how rows came."""

import itertools
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.batches import OFFSET
from headrace_data.dataset import DatasetReader
from headrace_data.errors import SpecInvalid
from headrace_data.history import History, keep
from headrace_data.manifest import Manifest, Provenance
from headrace_data.outliers import OUTLIER_RULES, OUTLIERS
from headrace_data.parts import read_columns
from headrace_data.records import RecordChecker
from headrace_data.segments import Segment, SegmentWriter
from headrace_data.slices import left_out
from headrace_data.spec import Outliers, Pipeline, load_pipeline
from headrace_data.split import SPLITS, assign_splits
from headrace_data.windows import Windows
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import MemoryStore

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: far}
stream:
  topic: far
  schema:
    - {name: id, type: int64, role: id}
    - {name: x, type: float64, role: feature, nullable: true}
    - {name: n, type: int32, role: feature}
    - {name: on, type: bool, role: feature}
    - {name: pair, type: float32, shape: [2], role: feature}
    - {name: t, type: string, role: feature}
    - {name: y, type: float64, role: label}
prepare:
  clean: {missing: keep, outliers: RULES}
  transform: {x: {impute: mean}, t: {encode: hash}}
  window: all
train: {network: {kind: mlp}}
"""


def pipeline_of(rules: str = "{}") -> Pipeline:
    return load_pipeline(DOCUMENT.replace("outliers: RULES", f"outliers: {rules}" if rules else ""))


def rows(pipeline: Pipeline, changed: dict[int, dict[str, Any]], count: int = 400, first: int = 0) -> pa.RecordBatch:
    """Return rows whose numbers lie around 0, but for some."""
    dice = np.random.default_rng(3)
    numbers = dice.normal(size=(first + count, 3))
    values = [
        json.dumps(
            {"id": row, "x": x, "n": round(n * 50), "on": row % 90 == 0, "pair": [0, 9e9], "t": "a", "y": y}
            | changed.get(row, {})
        ).encode()
        for row, (x, n, y) in list(enumerate(numbers.tolist()))[first:]
    ]
    places = list(range(first, first + count))
    checked = RecordChecker(pipeline.stream).check(values, [0] * count, places)
    assert checked.rejected == []
    return checked.batch


def dataset(pipeline: Pipeline, store: MemoryStore, *segments: list[pa.RecordBatch]) -> Manifest:
    history = History(pipeline=pipeline.name)
    for batches in segments:
        history = history.and_cut(keep(segment_of(pipeline, store, batches), pipeline, store))
    return Windows(pipeline, store).dataset(history)[0]


def segment_of(pipeline: Pipeline, store: MemoryStore, batches: list[pa.RecordBatch]) -> Segment:
    writer = SegmentWriter(pipeline, store, part_rows=64)
    for batch in batches:
        writer.add(batch)
    origin = Provenance(cluster_id="c", topic="far", topic_id="t", sources=(), clean_ranges=(), rejected={})
    return writer.finish(origin)


def dropped(manifest: Manifest, store: MemoryStore) -> list[int]:
    found = []
    for part in manifest.parts:
        offsets = read_columns(part, [OFFSET], store).column(OFFSET).to_numpy()
        found += offsets[left_out(part)].tolist()
    return found


def split_of(pipeline: Pipeline, count: int) -> list[str]:
    return [SPLITS[side] for side in assign_splits(pa.array(range(count), pa.int64()), pipeline.prepare.split)]


@pytest.mark.parametrize(
    ("rule", "limit", "values", "bounds"),
    [
        # Quartiles 2 and 4; the median distance from 3 is 1.
        ("iqr", 3, [1, 2, 3, 4, 5], (-4, 10)),
        ("iqr", 1.5, [1, 2, 3, 4, 5], (-1, 7)),
        ("robustZ", 3.5, [1, 2, 3, 4, 5], (3 - 3.5 / 0.6745, 3 + 3.5 / 0.6745)),
        # One value of a thousand times the size moves neither.
        ("iqr", 3, [1, 2, 3, 4, 5000], (-4, 10)),
        ("robustZ", 3.5, [1, 2, 3, 4, 5000], (3 - 3.5 / 0.6745, 3 + 3.5 / 0.6745)),
        ("iqr", 3, [7, 7, 7, 7, 9], None),
        ("robustZ", 3.5, [7, 7, 7, 1, 9], None),
        ("iqr", 3, [5], None),
    ],
)
def test_bounds_are_those_that_are_worked_out_by_hand(
    rule: str, limit: float, values: list[float], bounds: tuple[float, float] | None
) -> None:
    found = OUTLIER_RULES[rule](np.array(values, dtype=np.float64), limit)
    assert found == (bounds and pytest.approx(bounds))


@pytest.mark.parametrize("rules", ["{}", "{rule: iqr}", "{rule: iqr, limit: 30}", "{fields: [n]}", "{fields: [y]}"])
def test_training_is_without_far_values_of_the_fields_that_are_looked_at(rules: str) -> None:
    pipeline, store = pipeline_of(rules), MemoryStore()
    side = split_of(pipeline, 400)
    learned, asked = (next(row for row in range(20, 400) if side[row] == name) for name in ("train", "test"))
    far: dict[int, dict[str, Any]] = {
        learned: {"x": 9e9},
        asked: {"x": 9e9},
        7: {"x": None},
        9: {"n": -(10**6)},
        11: {"y": 1e5},
    }
    batch = rows(pipeline, far)

    manifest = dataset(pipeline, store, [batch])

    looked = pipeline.outlier_fields
    wanted = [
        row
        for row in (learned, 9, 11)
        if side[row] == "train" and any(abs(far[row].get(field.name) or 0) > 1 for field in looked)
    ]
    assert dropped(manifest, store) == sorted(wanted)
    assert manifest.provenance.rejected == ({OUTLIERS: len(wanted)} if wanted else {})
    assert manifest.splits["test"].rows == side.count("test")
    assert manifest.splits["train"].rows == side.count("train") - len(wanted)
    read = DatasetReader(manifest, store).columns("train")
    assert len(read["x"]) == manifest.splits["train"].rows
    assert Manifest.from_json(manifest.to_json()) == manifest
    # What is fitted is fitted without them.
    if rules == "{}":
        fitted = manifest.transforms["x"].fill
        assert np.abs(np.asarray(fitted)) < 1


PIPELINE = pipeline_of()
FAR: dict[int, dict[str, Any]] = {5: {"x": 1e6}, 70: {"n": 10**6}, 130: {"x": -1e6}, 200: {"x": 44.0}}
WHOLE = rows(PIPELINE, FAR)


def test_without_the_rule_nothing_is_left_out() -> None:
    store, plain = MemoryStore(), pipeline_of("")
    assert b"left_out" not in dataset(plain, store, [WHOLE]).to_json()
    assert b"outliers" not in plain.canonical_json()
    assert PIPELINE.prepare_digest != plain.prepare_digest


@settings(deadline=None, max_examples=8)
@given(st.sets(st.integers(1, 399), max_size=5), st.sets(st.integers(100, 300), max_size=2))
def test_what_is_left_out_does_not_depend_on_batches(cuts: set[int], segments: set[int]) -> None:
    store, other = MemoryStore(), MemoryStore()
    bounds = [0, *sorted(segments), 400]
    pieces = [WHOLE.slice(one, two - one) for one, two in itertools.pairwise(bounds)]

    def batched(piece: pa.RecordBatch) -> list[pa.RecordBatch]:
        places = [0, *sorted(cut for cut in cuts if cut < len(piece)), len(piece)]
        return [piece.slice(one, two - one) for one, two in itertools.pairwise(places)]

    whole = dataset(PIPELINE, store, *([piece] for piece in pieces))
    again = dataset(PIPELINE, other, *(batched(piece) for piece in pieces))

    assert again == whole
    # The bounds are those of all rows, however many cuts they came in.
    side = split_of(PIPELINE, 400)
    assert dropped(whole, store) == [row for row in FAR if side[row] == "train"]


def test_the_bounds_are_told_with_how_many_rows_lie_beyond() -> None:
    store, history = MemoryStore(), History(pipeline=PIPELINE.name)
    history = history.and_cut(keep(segment_of(PIPELINE, store, [WHOLE]), PIPELINE, store))
    windows = Windows(PIPELINE, store)
    windows.dataset(history)
    side = split_of(PIPELINE, 400)
    values = WHOLE.column("x").to_numpy()[[each == "train" for each in side]]
    x, n = windows.remarks.outlying
    assert (x.low, x.high) == pytest.approx(OUTLIER_RULES["robustZ"](values, 3.5))
    beyond = [sum(side[row] == "train" and name in FAR[row] for row in FAR) for name in ("x", "n")]
    assert [(x.field, x.rows), (n.field, n.rows)] == list(zip("xn", beyond, strict=True))


def test_segments_of_before_the_rule_are_looked_at_and_later_ones_change_the_bounds() -> None:
    store, plain = MemoryStore(), pipeline_of("")
    side = split_of(PIPELINE, 400)
    first, second = (
        rows(plain, {5: {"x": 1e6}}, 200),
        rows(plain, {row: {"x": 1e6} for row in range(200, 400)}, 200, 200),
    )
    history = History(pipeline=plain.name).and_cut(keep(segment_of(plain, store, [first]), plain, store))

    alone, history = Windows(PIPELINE, store).dataset(history)
    history = history.and_cut(keep(segment_of(PIPELINE, store, [second]), PIPELINE, store))
    both, _ = Windows(PIPELINE, store).dataset(history)

    assert (side[5], dropped(alone, store)) == ("train", [5])
    # Half of the values are like it now: it is far no more, and a row of the dataset again.
    assert dropped(both, store) == []
    assert [each.strict for each in both.slices] == [True, False]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (
            "{fields: [t]}",
            "prepare.clean.outliers.fields[0]: expected a field that is one number, got 't' of type string",
        ),
        ("{fields: [on]}", "got 'on' of type bool"),
        ("{fields: [pair]}", "got 'pair' of type float32 and shape [2]"),
        ("{fields: [id]}", "expected a feature or a label, got 'id' with role id"),
        ("{fields: [x, x]}", "prepare.clean.outliers.fields[1]: expected each field once, got 'x' again"),
        ("{fields: [z]}", "unknown field 'z'"),
        ("{rule: sigma}", "prepare.clean.outliers.rule"),
        ("{limit: 0}", "prepare.clean.outliers.limit"),
    ],
)
def test_what_is_no_rule_is_told(rules: str, told: str) -> None:
    with pytest.raises(SpecInvalid) as problems:
        pipeline_of(rules)
    assert told in str(problems.value)


def test_all_numbers_are_looked_at_where_none_is_named() -> None:
    assert [field.name for field in PIPELINE.outlier_fields] == ["x", "n"]
    assert (Outliers().reach, Outliers(rule="iqr").reach, Outliers(limit=5).reach) == (3.5, 3, 5)
