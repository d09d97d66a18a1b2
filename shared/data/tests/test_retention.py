"""What of a history is kept: everything, or what the window may need and the pipeline retains."""

from __future__ import annotations

import pytest
from headrace_data.canonical import sha256_digest
from headrace_data.errors import SpecInvalid
from headrace_data.history import Entry, History
from headrace_data.manifest import Ref, Source
from headrace_data.retention import retained
from headrace_data.spec import Pipeline, load_pipeline, parse_canonical

SPEC = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: days}}
stream:
  topic: days
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: int64, role: label}}
prepare: {{window: {window}}}
train: {{network: {{kind: mlp}}}}
{retain}
"""
DAY_US = 86_400_000_000


def spec(window: str = "new", retain: str = "") -> Pipeline:
    return load_pipeline(SPEC.format(window=window, retain=retain and f"retain: {retain}").encode())


def history(days: int = 10, *, timed: bool = True) -> History:
    """One segment of 100 rows a day."""
    entries = []
    for day in range(days):
        name = sha256_digest(str(day).encode())
        first, last = (day * DAY_US, (day + 1) * DAY_US - 1) if timed else (None, None)
        manifest = Ref(uri="file:///m", digest=name, size_bytes=1)
        entries.append(Entry(segment_id=name, manifest=manifest, rows=100, first_time=first, last_time=last))
    return History(pipeline="days", entries=tuple(entries), prepared="p")


@pytest.mark.parametrize(
    ("window", "retain", "kept"),
    [
        ("new", "", 10),
        ("{last: 2d}", "", 10),
        ("all", "{versions: 1}", 10),
        ("new", "{versions: 20}", 2),
        ("new", "{versions: 20, age: 5d}", 6),
        ("{last: 2d}", "{versions: 20}", 5),
        ("{last: 2d}", "{age: 365d}", 10),
        ("{rows: 150}", "{versions: 20}", 3),
        ("{rows: 5000}", "{versions: 20}", 10),
    ],
)
def test_the_newest_segments_are_kept_that_a_window_twice_as_long_takes(window: str, retain: str, kept: int) -> None:
    whole = history()
    left = retained(whole, spec(window, retain))
    assert left.entries == whole.entries[10 - kept :]
    assert (left.watermark, left.prepared) == (whole.watermark, "p")
    assert retained(left, spec(window, retain)) == left


def test_rows_without_a_time_are_kept_by_number_alone() -> None:
    assert len(retained(history(timed=False), spec("new", "{versions: 20}")).entries) == 2
    assert len(retained(history(timed=False), spec("{last: 2d}", "{versions: 20}")).entries) == 10
    assert retained(history(0), spec("new", "{versions: 20}")) == history(0)


def test_what_is_retained_changes_no_digest_of_what_is_learned() -> None:
    before, after = spec(), spec(retain="{versions: 20, age: 90d}")
    assert b"retain" not in before.canonical_json()
    assert before.preparation == after.preparation
    assert parse_canonical(after.canonical_json()) == after


@pytest.mark.parametrize("retain", ["{}", "{versions: 0}", "{age: never}", "{versions: 3, days: 4}"])
def test_what_says_nothing_or_nonsense_is_refused(retain: str) -> None:
    with pytest.raises(SpecInvalid):
        spec(retain=retain)


def test_what_backfills_took_stays_and_so_does_what_a_window_by_another_clock_reaches() -> None:
    whole = history()
    source = Source(name="old.csv", digest=whole.entries[0].segment_id, number=-(2**31))
    backfilled = whole.entries[0].model_copy(update={"source": source})
    filled = whole.model_copy(update={"entries": (backfilled, *whole.entries[1:])})
    assert retained(filled, spec("new", "{versions: 20}")).entries == (backfilled, *whole.entries[-2:])
    # The newest five days tell other times, much later ones.
    clocked = [entry.model_copy(update={"clock": "at"}) for entry in whole.entries[:5]]
    mixed = whole.model_copy(update={"entries": (*clocked, *whole.entries[5:])})
    pipeline = load_pipeline(
        SPEC.format(window="{last: 1d}", retain="retain: {versions: 20}").replace(
            "topic: days", "topic: days\n  time: at"
        )
    )
    assert retained(mixed, pipeline).entries == mixed.entries[2:]
