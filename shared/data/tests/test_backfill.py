"""Backfills: files of rows, what becomes of each row, and what a history has of them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from headrace_data import backfill as backfills
from headrace_data.backfill import Backfill
from headrace_data.batches import OFFSET, PARTITION, TIME
from headrace_data.canonical import sha256_digest
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetUnusable, FileInvalid
from headrace_data.files import AT_ONCE, rows_of_file
from headrace_data.formats.cells import LONGEST_ROW
from headrace_data.history import History, keep
from headrace_data.manifest import Provenance, SegmentManifest
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import Windows

from .conftest import MemoryStore

SPEC = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: days}}
stream:
  topic: days
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: x, type: float64, role: feature, range: [0, 1000], nullable: true}}
    - {{name: pair, type: float32, shape: [2], role: feature}}
    - {{name: on, type: bool, role: feature}}
    - {{name: "place.name", type: string, role: feature}}
    - {{name: y, type: int64, role: label}}
prepare:
  clean: {{missing: keep}}
  transform:
    x: {{impute: median}}
    "place.name": {{encode: onehot}}
  window: {window}
train: {{network: {{kind: mlp}}}}
"""
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW_S = (START + timedelta(days=1)).timestamp()
NOWHERE = Provenance(cluster_id="c", topic="days", topic_id="t", sources=(), clean_ranges=(), rejected={})
COUNT = 2_500


def pipeline(window: str = "all") -> Pipeline:
    return load_pipeline(SPEC.format(window=window))


def records(start: int, stop: int) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "x": None if number % 7 == 3 else number % 1000 + 0.25,
            "pair": [number / 4, -1.5],
            "on": number % 2 == 0,
            "place.name": f'a "{number % 3}", b',
            "y": number % 3,
            "at": START + timedelta(seconds=number),
        }
        for number in range(start, stop)
    ]


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"\r\n".join(json.dumps({**row, "at": row["at"].isoformat()}).encode() for row in rows) + b"\r\n\r\n"


def csv_file(rows: list[dict[str, Any]]) -> bytes:
    cells = [{**row, "pair": json.dumps(row["pair"]), "at": row["at"].isoformat()} for row in rows]
    sink = io.BytesIO()
    pyarrow.csv.write_csv(pa.Table.from_pylist(cells), sink)
    return sink.getvalue()


def parquet_file(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    place = table.schema.get_field_index("place.name")
    pq.write_table(
        table.set_column(place, "place.name", table.column(place).dictionary_encode()), sink, row_group_size=700
    )
    return sink.getvalue()


WRITERS = {"jsonl": json_lines, "csv": csv_file, "parquet": parquet_file}


class Shelf:
    """Takes files into the history of one pipeline."""

    def __init__(self, window: str = "all", time: str = "at") -> None:
        self.pipeline = pipeline(window)
        self.stream = self.pipeline.stream.model_copy(update={"time": time or None})
        self.store = MemoryStore()
        self.history = History(pipeline="days")

    def take(self, *files: tuple[str, str, bytes]) -> Backfill:
        done = Backfill(self.pipeline, self.store, self.history, self.stream, NOW_S)
        for name, file_format, data in files:
            source = done.source(name, sha256_digest(data))
            if not done.has(source):
                done.take(source, rows_of_file(io.BytesIO(data), file_format, self.stream), NOWHERE)
        done.require_rows()
        self.history = done.history
        return done

    def cut(self, rows: list[dict[str, Any]]) -> str:
        writer = SegmentWriter(self.pipeline, self.store)
        values = [json.dumps({**row, "at": row["at"].isoformat()}).encode() for row in rows]
        writer.add(RecordChecker(self.stream).check(values, [0] * len(rows), range(len(rows))).batch)
        segment = writer.finish(NOWHERE)
        self.history = self.history.and_cut(keep(segment, self.pipeline, self.store))
        return segment.manifest.segment_id

    def manifests(self) -> list[SegmentManifest]:
        return [SegmentManifest.from_json(self.store.get(entry.manifest)) for entry in self.history.entries]

    def rows(self) -> list[dict[str, Any]]:
        manifest = Windows(self.pipeline, self.store).dataset(self.history)[0]
        found = [row for _, batch in DatasetReader(manifest, self.store).rows() for row in batch.to_pylist()]
        return sorted(found, key=lambda row: (row[PARTITION], row[OFFSET]))


@pytest.mark.parametrize("file_format", WRITERS)
def test_a_file_becomes_rows_with_their_number_and_event_time(file_format: str) -> None:
    shelf, wanted = Shelf(), records(0, COUNT)
    done = shelf.take(("old", file_format, WRITERS[file_format](wanted)))
    (entry,), (manifest,) = shelf.history.entries, shelf.manifests()
    assert (done.rows, done.known, done.rejected, done.refused) == (COUNT, 0, {}, [])
    assert entry.source is not None
    assert (entry.source.name, entry.source.start, entry.source.end) == ("old", 0, COUNT)
    assert entry.source.number < -(2**30)
    assert manifest.provenance.backfilled == (entry.source,)
    found = shelf.rows()
    assert [(row[PARTITION], row[OFFSET]) for row in found] == [(entry.source.number, row) for row in range(COUNT)]
    assert [row[TIME] for row in found] == [row["at"] for row in wanted]
    assert [{name: row[name] for name in wanted[0] if name != "at"} for row in found] == [
        {name: row[name] for name in row if name != "at"} for row in wanted
    ]


def test_the_same_rows_in_another_format_are_there_already() -> None:
    shelf = Shelf()
    files = [(name, name, write(records(0, 300))) for name, write in WRITERS.items()]
    assert shelf.take(files[0]).rows == 300
    before = shelf.history
    for each in (files[0], files[1], files[2]):
        done = shelf.take(each)
        assert (done.rows, done.known, shelf.history) == (0, 300, before)


def test_backfills_come_before_cuts_in_the_order_in_which_they_came() -> None:
    shelf = Shelf()
    cut = shelf.cut(records(900, 1000))
    first = shelf.take(("a", "csv", csv_file(records(0, 100))), ("b", "jsonl", json_lines(records(100, 200))))
    shelf.take(("c", "parquet", parquet_file(records(200, 300))))
    names = [entry.source.name if entry.source else "cut" for entry in shelf.history.entries]
    assert names == ["a", "b", "c", "cut"]
    assert len(first.fresh) == 2
    assert shelf.history.entries[-1].segment_id == cut
    assert [entry.segment_id for entry in shelf.history.cuts] == [cut]
    assert sorted(row["id"] for row in shelf.rows()) == [*range(300), *range(900, 1000)]
    manifest = Windows(shelf.pipeline, shelf.store).dataset(shelf.history)[0]
    assert [source.name for source in manifest.provenance.backfilled] == ["a", "b", "c"]
    assert not manifest.provenance.sources


def test_the_newest_cut_is_none_of_a_backfill() -> None:
    shelf = Shelf(window="new")
    shelf.take(("a", "csv", csv_file(records(0, 100))))
    with pytest.raises(DatasetUnusable, match="nothing was cut yet"):
        shelf.rows()
    shelf.cut(records(100, 200))
    shelf.take(("b", "csv", csv_file(records(200, 300))))
    assert [row["id"] for row in shelf.rows()] == list(range(100, 200))


def broken_rows() -> dict[str, tuple[int, dict[str, Any]]]:
    sound = records(0, 20)
    return {
        "type": (2, {**sound[2], "y": "two"}),
        "outOfRange": (5, {**sound[5], "x": 1e6}),
        "duplicates": (11, {**sound[11], "id": 0}),
        "missing": (13, {**sound[13], "place.name": " "}),
        "shape": (14, {**sound[14], "pair": [1]}),
        "future": (17, {**sound[17], "at": START + timedelta(days=400)}),
    }


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
def test_bad_rows_are_refused_by_the_rules_of_the_stream_and_named(file_format: str) -> None:
    shelf, rows = Shelf(), records(0, 20)
    for number, row in broken_rows().values():
        rows[number] = row
    if file_format == "csv":
        rows = [{**row, "y": str(row["y"])} for row in rows]
    done = shelf.take(("old", file_format, WRITERS[file_format](rows)))
    assert done.rejected == dict.fromkeys(broken_rows(), 1)
    assert {each.rejection.rule: each.number for each in done.refused} == {
        rule: number for rule, (number, _) in broken_rows().items()
    }
    assert [each.number for each in done.refused] == sorted(number for number, _ in broken_rows().values())
    for each in done.refused:
        assert json.loads(each.value or b"")["id"] == rows[each.number]["id"]
    assert done.faults[0].startswith("old row 2: y: expected")
    assert len(done.faults) == backfills.MOST_FAULTS < len(done.refused)
    (manifest,) = shelf.manifests()
    assert manifest.provenance.rejected == done.rejected
    assert (manifest.rows, shelf.history.sources[0].end) == (14, 20)
    (dropped,) = (each for each in done.refused if each.rejection.rule == "duplicates")
    assert dropped.time_us == int((START + timedelta(seconds=11)).timestamp()) * 1_000_000


def test_duplicates_are_dropped_over_all_files_of_a_backfill() -> None:
    shelf = Shelf()
    done = shelf.take(("a", "jsonl", json_lines(records(0, 50))), ("b", "csv", csv_file(records(40, 90))))
    assert (done.rows, done.rejected) == (90, {"duplicates": 10})


def test_rows_of_another_width_and_bytes_that_are_no_text_are_refused_alone() -> None:
    header, *lines = csv_file(records(0, 10)).replace(b"\n", b"\r\n").splitlines()
    lines[3] += b",more"
    lines[4] = b"7"
    lines[6] = lines[6].replace(b"b", b"\xff")
    data = b"\xef\xbb\xbf" + b"\n".join([header, *lines[:5], b"", *lines[5:]])
    done = Shelf().take(("old.csv", "csv", data))
    assert [(each.number, each.rejection.rule) for each in done.refused] == [
        (3, "columns"),
        (4, "columns"),
        (7, "json"),
    ]
    assert str(done.refused[0]) == "old.csv row 3: expected 7 columns, got 8"
    assert done.rows == 7


def test_columns_may_be_divided_by_other_signs() -> None:
    plain = [{**row, "pair": json.dumps(row["pair"])} for row in records(0, 5)]
    text = "\n".join(
        ["\t".join(plain[0]), *("\t".join(str("" if each is None else each) for each in row.values()) for row in plain)]
    )
    assert Shelf().take(("old.tsv", "csv", text.replace('"', "").encode())).rows == 5


def damaged() -> Iterator[tuple[str, bytes, str]]:
    whole = parquet_file(records(0, 50))
    yield "parquet", whole[: len(whole) // 2], "expected parquet, got what cannot be read as that"
    yield "parquet", b"id,x\n1,2\n", "expected parquet, got what cannot be read as that"
    yield "csv", b"", "expected a header"
    yield "csv", whole, "expected"
    yield "csv", b"id;x\n1;2\n", "expected a column 'pair', 'on', 'place.name', 'y', 'at', got 'id', 'x'"
    yield "csv", csv_file(records(0, 1)) + b'1,"open', "line 3: expected a quote at the end of the cell"
    yield "csv", csv_file(records(0, 1)).replace(b'"x"', b'"id"', 1), "each column once, got 'id' more than once"
    yield "jsonl", b"x" * (LONGEST_ROW + 10), "expected lines of at most"
    yield "csv", csv_file(records(0, 1)) + b"x" * (LONGEST_ROW + 10), "expected lines of at most"
    yield "xlsx", b"", "expected a file of csv, jsonl, parquet, arrow, got 'xlsx'"


@pytest.mark.parametrize(("file_format", "data", "reason"), list(damaged()))
def test_a_file_that_is_none_says_what_was_expected(file_format: str, data: bytes, reason: str) -> None:
    shelf = Shelf()
    before = shelf.history
    with pytest.raises(FileInvalid, match=reason.replace(".", r"\.")):
        shelf.take(("old", file_format, data))
    assert shelf.history == before


def test_a_parquet_column_that_json_has_no_form_for_is_refused_by_name() -> None:
    table = pa.Table.from_pylist(records(0, 3))
    place = table.schema.get_field_index("place.name")
    sink = io.BytesIO()
    pq.write_table(table.set_column(place, "place.name", pa.array([b"a", b"b", b"c"])), sink)
    with pytest.raises(FileInvalid, match=r"column 'place\.name', got binary"):
        Shelf().take(("old", "parquet", sink.getvalue()))


def test_decimals_and_times_of_parquet_are_what_they_say() -> None:
    table = pa.Table.from_pylist(records(0, 3))
    decimals = pa.array([Decimal("1.50"), None, Decimal("3.25")], pa.decimal128(8, 2))
    nanoseconds = table.column("at").combine_chunks().cast(pa.timestamp("ns", "UTC"))
    table = table.set_column(1, "x", decimals).set_column(6, "at", nanoseconds)
    shelf, sink = Shelf(), io.BytesIO()
    pq.write_table(table, sink)
    shelf.take(("old", "parquet", sink.getvalue()))
    assert [row["x"] for row in shelf.rows()] == [1.5, None, 3.25]
    bare = table.set_column(6, "at", nanoseconds.cast(pa.timestamp("us")))
    sink = io.BytesIO()
    pq.write_table(bare, sink)
    with pytest.raises(DatasetUnusable, match=r"got none among 3: bare row 0: at: expected a time with a zone"):
        shelf.take(("bare", "parquet", sink.getvalue()))


def test_rows_without_an_event_time_have_none() -> None:
    shelf = Shelf(time="")
    shelf.take(("old", "csv", csv_file(records(0, 40))))
    assert {row[TIME] for row in shelf.rows()} == {None}
    assert shelf.history.watermark is None


def test_a_file_of_no_sound_row_changes_nothing() -> None:
    shelf = Shelf()
    with pytest.raises(DatasetUnusable, match="expected rows that break no rule, got none among 5: old row 0: y"):
        shelf.take(("old", "jsonl", json_lines([{**row, "y": "?"} for row in records(0, 5)])))
    assert not shelf.history.entries


def test_sources_whose_digests_begin_alike_have_numbers_of_their_own() -> None:
    shelf = Shelf()
    alike = [f"sha256:ffffffff{number:056x}" for number in range(2)]
    done = Backfill(shelf.pipeline, shelf.store, shelf.history, shelf.stream, NOW_S)
    for number, digest in enumerate(alike):
        source = done.source(f"f{number}", digest)
        data = json_lines(records(number * 10, number * 10 + 10))
        done.take(source, rows_of_file(io.BytesIO(data), "jsonl", shelf.stream), NOWHERE)
        assert done.source("again", digest).number == source.number
    assert [source.number for source in done.history.sources] == [-(2**30) - 1, -(2**31)]


def test_long_sources_end_segments_and_their_ranges_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfills, "SEGMENT_ROWS", 1_000)
    shelf = Shelf()
    shelf.take(("old", "parquet", parquet_file(records(0, COUNT))))
    ranges = [(source.start, source.end) for source in shelf.history.sources]
    assert [start for start, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert (len(ranges), ranges[-1][1]) == (3, COUNT)
    assert shelf.take(("again", "parquet", parquet_file(records(0, COUNT)))).known == COUNT


def test_what_is_kept_of_bad_rows_is_bounded_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfills, "MOST_REFUSED", 7)
    shelf = Shelf()
    rows = [{**row, "y": "?"} for row in records(0, 50)] + records(50, 100)
    done = shelf.take(("old", "jsonl", json_lines(rows)))
    assert (len(done.refused), done.rejected["type"], done.rows) == (7, 50, 50)


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
def test_a_file_is_read_in_pieces(file_format: str) -> None:
    data = WRITERS[file_format](records(0, 20_000))
    file = io.BytesIO(data)
    first = next(rows_of_file(file, file_format, Shelf().stream))
    assert len(first.numbers) == AT_ONCE
    assert file.tell() < len(data) / 10


def test_a_window_of_time_drops_duplicates_within_that_time() -> None:
    shelf = Shelf()
    document = SPEC.format(window="all").replace(
        "{missing: keep}", "{missing: keep, duplicateScope: stream, duplicateWindow: 1h}"
    )
    shelf.pipeline = load_pipeline(document)
    rows = records(0, 40)
    again = [{**rows[0], "at": START + timedelta(minutes=30)}, {**rows[1], "at": START + timedelta(hours=3)}]
    done = shelf.take(("old", "jsonl", json_lines([*rows, *again])))
    assert (done.rows, done.rejected, done.refused[0].number) == (41, {"duplicates": 1}, 40)
    assert done.faults == ["old row 40: id: expected a new key, got one that is of the last 3600s of the stream"]
