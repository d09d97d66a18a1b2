"""What is said of a dataset: the class with the fewest rows in a split, and training rows that are held out, too."""

import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from headrace_data import sketch_files
from headrace_data.class_rows import ClassRows, rarest
from headrace_data.errors import SpecInvalid
from headrace_data.history import History, keep, kept_sketch
from headrace_data.leaks import Leak, LeakRows, Leaks
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.split import SPLITS, assign_splits
from headrace_data.windows import Remarks, Windows

from .conftest import MemoryStore

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: said}
stream:
  topic: said
  schema:
    - {name: id, type: int64, role: id}
    - {name: x, type: float64, role: feature, nullable: true}
    - {name: t, type: string, role: feature}
    - {name: y, type: TYPE, role: label}
prepare:
  clean: {missing: keep}
  transform: {x: {impute: mean}, t: {encode: hash}}
  window: all
train: {network: {kind: mlp}}
"""


def pipeline_of(asked: str = "", kind: str = "int64") -> Pipeline:
    return load_pipeline(DOCUMENT.replace("TYPE", kind).replace("  window:", f"{asked}\n  window:"))


def rows(pipeline: Pipeline, records: list[dict[str, Any]], first: int = 0) -> pa.RecordBatch:
    places = range(first, first + len(records))
    values = [
        json.dumps({"id": row, "x": row, "t": "a"} | each).encode() for row, each in zip(places, records, strict=True)
    ]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), places)
    assert checked.rejected == []
    return checked.batch


def made(pipeline: Pipeline, *batches: pa.RecordBatch, store: MemoryStore | None = None) -> Remarks:
    """Return what is said of the dataset of these segments."""
    store, history = store or MemoryStore(), History(pipeline=pipeline.name)
    for batch in batches:
        writer = SegmentWriter(pipeline, store)
        writer.add(batch)
        origin = Provenance(cluster_id="c", topic="said", topic_id="t", sources=(), clean_ranges=(), rejected={})
        history = history.and_cut(keep(writer.finish(origin), pipeline, store))
    windows = Windows(pipeline, store)
    windows.dataset(history)
    return windows.remarks


def side_of(pipeline: Pipeline, count: int) -> list[str]:
    return [SPLITS[side] for side in assign_splits(pa.array(range(count), pa.int64()), pipeline.prepare.split)]


@pytest.mark.parametrize(
    ("kind", "labels"), [("int64", [0, 1, 2]), ("string", ["a", "b", "c"]), ("bool", [False, True])]
)
@pytest.mark.parametrize("cuts", [[200], [90, 110]])
def test_the_class_with_the_fewest_rows_in_a_split_is_told(kind: str, labels: list[Any], cuts: list[int]) -> None:
    pipeline = pipeline_of(kind=kind)
    chosen = [labels[min(row % 7, len(labels) - 1)] for row in range(200)]
    batches = [
        rows(pipeline, [{"y": label} for label in chosen[end - count : end]], end - count)
        for count, end in zip(cuts, itertools.accumulate(cuts), strict=True)
    ]

    counts = Counter(zip(side_of(pipeline, 200), chosen, strict=True))
    (split, label), fewest = min(counts.items(), key=lambda item: item[1])
    found = made(pipeline, *batches).rarest

    assert found is not None
    assert found.rows == fewest
    assert (found.label, found.split) == (str(int(label)) if kind == "bool" else str(label), split)


def test_a_class_that_a_split_has_not_is_the_rarest_and_other_labels_have_none() -> None:
    pipeline = pipeline_of()
    only = next(row for row, side in enumerate(side_of(pipeline, 100)) if side == "train")
    labels = [{"y": 9 if row == only else row % 2} for row in range(100)]
    assert made(pipeline, rows(pipeline, labels)).rarest == ClassRows("9", "validation", 0)
    numbers = pipeline_of(kind="float64")
    assert made(numbers, rows(numbers, labels)) == Remarks(None, None)


def test_sketches_of_before_say_nothing_and_are_made_again_where_a_number_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, asking = pipeline_of(), pipeline_of("  minClassRows: 3")
    assert plain.prepare_digest == asking.prepare_digest
    store, writer = MemoryStore(), SegmentWriter(plain, MemoryStore())
    batch = rows(plain, [{"y": row % 2} for row in range(60)])
    writer = SegmentWriter(plain, store)
    writer.add(batch)
    origin = Provenance(cluster_id="c", topic="said", topic_id="t", sources=(), clean_ranges=(), rejected={})
    segment = writer.finish(origin)
    told = rarest(segment.sketch)
    for side in segment.sketch.sides.values():
        side.labels = None
    entry = keep(segment, plain, store)
    history = History(pipeline=plain.name).and_cut(entry)
    assert b"minClassRows" not in plain.canonical_json()

    kept = kept_sketch(entry, plain, store)
    assert kept is not None
    assert rarest(kept) is None
    assert kept_sketch(entry, asking, store) is None
    windows = Windows(asking, store)
    windows.dataset(history)
    assert windows.remarks.rarest == told
    (renewed,) = windows.renewed
    again = kept_sketch(renewed, asking, store)
    assert again is not None
    assert rarest(again) == told
    assert sketch_files.to_bytes(again) == store.get(renewed.sketch)  # type: ignore[arg-type]


def test_rows_that_are_held_out_and_taught_all_the_same_are_counted_and_named() -> None:
    pipeline = pipeline_of("  leak: report")
    side = side_of(pipeline, 300)
    learned, held = ([row for row in range(300) if (side[row] == "train") == taught] for taught in (True, False))
    records: list[dict[str, Any]] = [{"x": row, "y": row % 2} for row in range(300)]
    pairs = dict(zip(learned[10:17], held[3:10], strict=True))
    for row, twin in pairs.items():
        records[row] = {**records[twin]}
    records[learned[20]] = {**records[held[30]], "y": 1 - records[held[30]]["y"]}  # the same features, another label
    records[learned[21]] = {**records[learned[22]]}  # training may have a row twice
    records[held[31]] = {**records[held[32]], "x": None}

    found = made(pipeline, rows(pipeline, records[:150]), rows(pipeline, records[150:], 150)).leaks

    assert found is not None
    assert (found.exact, found.near) == (7, 0)
    assert found.examples == tuple(Leak(0, row, (0, twin)) for row, twin in sorted(pairs.items())[:5])
    assert made(pipeline_of(), rows(pipeline, records)).leaks is None
    assert made(pipeline, rows(pipeline, [{"y": row % 2} for row in range(60)])).leaks == Leaks()


def test_many_rows_are_estimated_from_some_and_batches_do_not_matter() -> None:
    pipeline = pipeline_of("  leak: stop")
    batch = rows(pipeline, [{"x": row % 1000, "y": 0} for row in range(2000)])
    held_out = np.arange(2000) < 1000
    found = []
    for most, step in ((2000, 2000), (2000, 77), (500, 333), (500, 900)):
        leaks = LeakRows(pipeline, most)
        for start in range(0, 2000, step):
            leaks.add(batch.slice(start, step), held_out[start : start + step])
        found.append(leaks.found())
    assert found[0] == found[1]
    assert (found[0].exact, found[0].examples[0]) == (1000, Leak(0, 1000, (0, 0)))
    assert found[2] == found[3]
    assert abs(found[2].exact - 1000) < 300
    assert all(leak.twin == (0, leak.offset - 1000) for leak in found[2].examples)


def test_texts_that_are_read_as_language_leak_where_they_nearly_repeat() -> None:
    document = DOCUMENT.replace("t: {encode: hash}", "t: {encode: text}").replace("TYPE", "int64")
    document = document.replace("    - {name: x, type: float64, role: feature, nullable: true}\n", "")
    document = document.replace("x: {impute: mean}, ", "").replace("window: all", "leak: report")
    pipeline = load_pipeline(document.replace("kind: mlp", f"kind: encoder, digest: 'sha256:{'0' * 64}', sizeBytes: 9"))
    texts = [" ".join(f"word{row * 1000 + place}" for place in range(30)) for row in range(80)]
    side = side_of(pipeline, 80)
    learned, held = ([row for row in range(80) if (side[row] == "train") == taught] for taught in (True, False))
    texts[learned[4]] = texts[held[0]].replace("word", "WORD", 2).replace(" ", "  ")
    texts[learned[5]] = texts[held[1]]
    records = [{"t": text, "y": row % 2} for row, text in enumerate(texts)]
    records[learned[5]]["y"] = records[held[1]]["y"]
    batch = (
        RecordChecker(pipeline.stream)
        .check([json.dumps({"id": row} | record).encode() for row, record in enumerate(records)], [0] * 80, range(80))
        .batch
    )

    found = made(pipeline, batch).leaks

    assert found == Leaks(1, 1, (Leak(0, learned[5], (0, held[1])), Leak(0, learned[4])))


@pytest.mark.parametrize(
    ("asked", "kind", "told"),
    [
        (
            "  minClassRows: 3",
            "float64",
            "prepare.minClassRows: expected none for a regression, which tells no classes",
        ),
        ("  minClassRows: 0", "int64", "prepare.minClassRows"),
        ("  leak: drop", "int64", "prepare.leak"),
    ],
)
def test_what_cannot_be_asked_for_is_told(asked: str, kind: str, told: str) -> None:
    with pytest.raises(SpecInvalid) as problems:
        pipeline_of(asked, kind)
    assert told in str(problems.value)
