"""Many records in a message: history and segments made again have each by its place and line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from headrace_data.backfill import Backfill
from headrace_data.files import Rows, apart
from headrace_data.formats.json_lines import MOST_LINES, line_of, lines_of
from headrace_data.history import History, keep
from headrace_data.manifest import OffsetRange, Provenance
from headrace_data.rebuild import Log, Rebuild
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline

from .conftest import MemoryStore

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: samples}
stream:
  topic: samples
  format: {kind: json, lines: true}
  schema:
    - {name: id, type: string, role: id}
    - {name: x, type: float64, role: feature, range: [0, 100]}
    - {name: y, type: string, role: label}
train: {network: {kind: mlp, hidden: [4]}, optimizer: {kind: adam, learningRate: 0.01}, epochs: 1, batchSize: 8}
"""
PIPELINE = load_pipeline(DOCUMENT)
ORIGIN: dict[str, Any] = {"cluster_id": "c", "topic": "samples", "topic_id": "t", "clean_ranges": (), "rejected": {}}


class Message:
    key, headers, timestamp_ms = None, (), 0


def line(number: int, x: object = 1) -> bytes:
    return b'{"id": "r%d", "x": %s, "y": "%s"}' % (number, str(x).encode(), b"ab"[number % 2 :][:1])


def rows(*values: bytes, first: int = 4) -> Rows:
    messages = [Message() for _ in values]
    times = np.full(len(values), 1_700_000_000_000_000, "datetime64[us]")
    return Rows(range(first, first + len(values)), values, times, messages=messages)


def test_lines_are_told_by_their_numbers() -> None:
    assert lines_of(b"\na\r\n \nb") == [(1, b"a\r"), (3, b"b")]
    assert [lines_of(value) for value in (None, b"", b"\n")] == [[(0, None)], [(0, b"")], [(0, b"\n")]]
    many = b"\n" * (MOST_LINES + 1)
    assert lines_of(many) == [(0, many)]
    assert (line_of(b"a\nb", 1), line_of(b"a\nb", 2)) == (b"b", None)
    found = apart(rows(b"a\n\nb", b"c"))
    assert (found.numbers, found.values, found.indexes) == ([4, 4, 5], [b"a", b"b", b"c"], [0, 2, 0])
    assert found.times is not None
    assert found.messages is not None
    assert len(found.times) == len(found.messages) == 3


def test_history_of_a_topic_refuses_the_line_that_is_wrong() -> None:
    done = Backfill(PIPELINE, MemoryStore(), History(pipeline="samples"), PIPELINE.stream, 2e9)
    wrong = [line(2, 101), line(4, '"much"')]
    piece = rows(b"\n".join([line(0), line(1), wrong[0], line(3)]), b"\n".join([wrong[1], line(5)]))
    done.take(done.source("before", "sha256:" + "0" * 64), [piece], Provenance(**ORIGIN, sources=()))
    assert (done.rows, dict(done.rejected)) == (4, {"outOfRange": 1, "type": 1})
    assert [(refused.number, refused.value) for refused in done.refused] == [(4, wrong[0]), (5, wrong[1])]


def test_a_segment_is_made_again_of_the_lines_of_its_messages() -> None:
    store, messages = MemoryStore(), rows(b"\n".join(map(line, range(9))), line(10), first=0)
    found = apart(messages)
    checked = RecordChecker(PIPELINE.stream).check(
        found.values, [0] * len(found.values), found.numbers, found.indexes, found.times
    )
    writer = SegmentWriter(PIPELINE, store)
    writer.add(checked.batch)
    segment = writer.finish(Provenance(**ORIGIN, sources=(OffsetRange(partition=0, start=0, end=2),)))
    history = History(pipeline="samples").and_cut(keep(segment, PIPELINE, store))

    def read(_partition: int, _start: int, _end: int) -> Iterator[Rows]:
        yield messages

    done = Rebuild(PIPELINE, store, history, 2e9, lambda: None)
    done.take(Log("t", {0: (0, 2)}, read), None, None)
    assert (done.known, done.rows) == (10, 0)


@pytest.mark.parametrize("told", ["{kind: json}", "json"])
def test_a_message_is_one_record_unless_its_format_says_otherwise(told: str) -> None:
    pipeline = load_pipeline(DOCUMENT.replace("{kind: json, lines: true}", told))
    assert not pipeline.stream.has_lines
    assert [
        each.rule for each in RecordChecker(pipeline.stream).check([line(1) + b"\n" + line(2)], [0], [0]).rejected
    ] == ["json"]
