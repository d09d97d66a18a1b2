"""What a dataset's page says of each column: who was rejected for it, what is missing, what is personal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace_client.errors import Unreachable
from headrace_client.report.by_column import by_column, examples, letters_of
from headrace_client.report.facts import DatasetFacts
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, OffsetRange, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.windows import only_dataset
from headrace_runtime.object_store import ObjectStore

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: calls}
stream:
  topic: calls
  schema:
    - {name: call, type: string, role: id}
    - {name: note, type: string, role: feature, nullable: true}
    - {name: minutes, type: float32, role: feature}
    - {name: state, type: string, role: label}
prepare: {clean: {missing: keep}, transform: {note: {impute: {constant: "?"}, encode: hash}}}
train: {network: {kind: mlp, hidden: [4]}}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> tuple[Manifest, ObjectStore]:
    pipeline, store = load_pipeline(DOCUMENT), ObjectStore(str(tmp_path))
    notes = ("null", '"write to ada@example.org"', '"nothing"')
    values = [
        f'{{"call": "c{n}", "note": {notes[n % 3]}, "minutes": {n}, "state": "{"ab"[n % 2]}"}}'.encode()
        for n in range(60)
    ]
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(values, [0] * 60, range(60)).batch)
    origin = Provenance(
        cluster_id="c",
        topic="calls",
        topic_id="t",
        clean_ranges=(),
        sources=(OffsetRange(partition=0, start=0, end=70),),
        rejected={"type": 2, "json": 1},
    )
    return only_dataset(writer.finish(origin), pipeline, store), store


class Desk:
    """Has some dead letters, or is away."""

    def __init__(self, *letters: messages.DeadLetter) -> None:
        self._letters = letters

    def dead_letters(self, pipeline: str, *, limit: int) -> Iterator[messages.DeadLetter]:
        if not self._letters:
            raise Unreachable("ingestion", "127.0.0.1:1", "away")
        assert (pipeline, limit > 0) == ("calls", True)
        yield from self._letters


def letter(field: str, rule: str, offset: int, replays: int = 0) -> messages.DeadLetter:
    return messages.DeadLetter(field=field, rule=rule, offset=offset, topic="calls", replays=replays, reason="why")


def test_each_column_is_told_with_what_it_cost_and_what_it_holds(manifest: tuple[Manifest, ObjectStore]) -> None:
    told, store = manifest
    desk = Desk(
        letter("minutes", "type", 60),
        letter("minutes", "type", 61),
        letter("minutes", "type", 61, replays=1),
        letter("", "json", 62),
        letter("gone", "missing", 63),
        letter("state", "type", 70),
    )
    letters = letters_of(desk, told)  # type: ignore[arg-type]
    assert letters is not None
    assert [(each.rule, each.field) for each in letters.examples] == [
        ("type", "minutes"),
        ("json", ""),
        ("missing", "gone"),
    ]
    assert letters.by_field == {"minutes": {"type": 2}, "": {"json": 1}, "gone": {"missing": 1}}
    facts = DatasetFacts({"unread": {"minutes": 9}}, told, DatasetReader(told, store).columns_of(), letters=letters)
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", str(by_column(facts)))))
    assert "note feature 20 (33.3%) email 20 " in text
    assert "minutes feature type 2 9 0 1 input" in text
    assert "state label 0 none found" in text
    assert "the record as a whole json 1" in text
    assert "gone missing 1" in text
    assert "why" in "".join(map(str, examples(facts)))
    assert "of 6 dead letters those of the dataset's offsets" in text


def test_a_page_is_written_where_ingestion_is_away(manifest: tuple[Manifest, ObjectStore]) -> None:
    told, store = manifest
    assert letters_of(Desk(), told) is None  # type: ignore[arg-type]
    facts = DatasetFacts({}, told, DatasetReader(told, store).columns_of())
    assert list(examples(facts)) == []
    assert "Ingestion could not be asked" in str(by_column(facts))
    assert np.all(facts.all_rows("minutes") >= 0)
