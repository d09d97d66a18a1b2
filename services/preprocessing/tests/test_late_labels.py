"""Labels that come later, beside a broker: what a cut without rows leaves to the next, and what memory holds."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from headrace_data.awaiting import NOTHING_WAITS
from headrace_data.forgotten import NOTHING_FORGOTTEN, Suppression, forgotten
from headrace_data.history import History
from headrace_data.manifest import OffsetRange
from headrace_data.private import no_keys
from headrace_data.records import RecordChecker, message_times
from headrace_data.spec import load_pipeline
from headrace_preprocessing.core.filling import Filling
from headrace_preprocessing.transport import late_labels
from headrace_preprocessing.transport.blobs import Blobs
from headrace_preprocessing.transport.late_labels import LateLabels, settle
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.records import Record

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: loans}
stream:
  topic: loans
  labels: {topic: outcomes, within: 7d}
  schema:
    - {name: loan, type: int64, role: id}
    - {name: amount, type: float32, role: feature}
    - {name: repaid, type: string, role: label}
train: {network: {kind: mlp, hidden: [4]}}
"""
LOANS = load_pipeline(DOCUMENT)


@pytest.fixture
def late(tmp_path: Path) -> LateLabels:
    labels = LateLabels(LOANS, Blobs(ObjectStore(str(tmp_path))), no_keys, lambda: None)
    labels.begin(None)
    return labels


def said(*loans: int, **other: object) -> list[Record]:
    return [
        Record("outcomes", 0, loan, str(loan).encode(), json.dumps({"loan": loan, "repaid": "yes", **other}).encode())
        for loan in loans
    ]


def test_what_a_cut_without_rows_counted_is_told_by_the_next_one(late: LateLabels) -> None:
    values, now = [b'{"loan": 1, "amount": 2.5}'], message_times([round(time.time() * 1_000)])
    rows = RecordChecker(LOANS.stream.incoming).check(values, [0], [7], times=now).batch
    filling = Filling(
        rows=1,
        rejected=Counter(type=1),
        sources={0: OffsetRange(partition=0, start=0, end=8)},
        time_sources={"create"},
        masked=Counter(email=2),
        unread=Counter(amount=3),
        writer_schemas={"sha256:one"},
    )
    join = late.join(None, "t", NOTHING_FORGOTTEN)
    assert not sum(map(len, join.rows(lambda: [rows])))
    joined, history, _ = settle(join, History(pipeline="loans"), filling, 0, Counter(range=1), Counter(email=1))
    late.done(joined)
    waits = history.awaiting or NOTHING_WAITS
    assert (waits.rejected, waits.masked, waits.unread) == ({"type": 1, "range": 1}, {"email": 3}, {"amount": 3})

    late.take(said(1))
    join = late.join(history.awaiting, "t", NOTHING_FORGOTTEN)
    assert sum(map(len, join.rows(list))) == 1
    new = Filling(masked=Counter(email=1), unread=Counter(amount=1), writer_schemas={"sha256:two"})
    joined, history, told = settle(join, history, new, 1, Counter(), Counter())
    assert (told.rejected, told.masked, told.unread) == ({"type": 1, "range": 1}, {"email": 4}, {"amount": 4})
    assert (told.time_sources, told.writer_schemas) == ({"create"}, {"sha256:one", "sha256:two"})
    assert history.awaiting == joined.awaiting
    waits = history.awaiting or NOTHING_WAITS
    assert (waits.rejected, waits.masked, waits.unread) == ({}, {}, {})
    assert (waits.time_sources, waits.writer_schemas) == ((), ())


def test_labels_without_rows_leave_memory_for_the_store(late: LateLabels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_labels, "MOST_ARRIVED", 3)

    def are_many(*loans: int) -> bool:
        late.take(said(*loans))
        return late.are_many

    assert not are_many(1, 2)
    late.take([Record("outcomes", 0, 3, None, b"none")])
    assert late.are_many, "records that are no labels take room, too"
    late.take(said(3))
    joined = late.join(None, "", NOTHING_FORGOTTEN).labels_alone()
    late.kept(joined)
    assert joined.awaiting.label_count == 3
    assert are_many(4, 5, 6, 7)
    joined = late.join(joined.awaiting, "", NOTHING_FORGOTTEN).labels_alone()
    late.kept(joined)
    # Not before there are as many as are kept: all are written anew.
    assert not are_many(8, 9, 10, 11)
    late.meet(RecordChecker(LOANS.stream.incoming).check([b'{"loan": 2, "amount": 1}'], [0], [0]).batch)
    assert (late.ready, late.awaiting) == (1, 0)


def test_the_letter_of_a_label_of_a_forgotten_key_tells_nothing_of_it(late: LateLabels) -> None:
    secret = b"0123456789abcdef" * 2
    late.forgotten = lambda: Suppression([forgotten("18150", secret)], lambda _: secret)
    late.take([*said(18150, repaid=4321), *said(7, repaid=4321)])
    silent, other = late.letters
    assert "4321" in repr(other)
    assert not any(trace in repr((silent.key, silent.value, silent.headers)) for trace in ("4321", "18150,"))
    assert (silent.key, silent.value) == (None, b"")
