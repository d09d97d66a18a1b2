import json
from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
import pytest
from headrace_data.cleaning import keys_of
from headrace_data.records import RecordChecker
from headrace_data.spec import Pipeline, load_pipeline
from headrace_preprocessing.core.cleaner import Cleaner
from hypothesis import given
from hypothesis import strategies as st

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: gauges}}
stream:
  topic: gauges
  schema:
    - {{name: gauge, type: string, role: {role}}}
    - {{name: level, type: float32, role: feature, range: [0, 10]}}
    - {{name: state, type: int64, role: label}}
prepare:
  clean: {{duplicates: {duplicates}, outOfRange: {out_of_range}, duplicateWindow: {window}}}
train:
  network: {{kind: mlp, hidden: [4]}}
"""


def pipeline(duplicates: str = "drop", out_of_range: str = "drop", window: int = 3, role: str = "id") -> Pipeline:
    return load_pipeline(DOCUMENT.format(duplicates=duplicates, out_of_range=out_of_range, window=window, role=role))


def rows(of: Pipeline, gauges: Sequence[str], level: float = 1.0, offset: int = 0) -> pa.RecordBatch:
    values = [json.dumps({"gauge": gauge, "level": level, "state": 0}).encode() for gauge in gauges]
    places = range(offset, offset + len(values))
    return RecordChecker(of.stream).check(values, [0] * len(values), places).batch


def kept(cleaner: Cleaner, gauges: Sequence[str], partition: int = 0, level: float = 1.0) -> str:
    (cleaned,) = cleaner.clean(partition, [rows(cleaner.pipeline, gauges, level)])
    return "".join(cleaned.batch.column("gauge").to_pylist())


def restored(of: Pipeline, *accepted: str, partition: int = 0) -> Cleaner:
    cleaner = Cleaner(of)
    cleaner.restore(partition, [keys_of(rows(of, gauges), of) for gauges in accepted], 0)
    return cleaner


def test_restored_keys_are_duplicates_and_those_that_left_the_window_are_not() -> None:
    cleaner = restored(pipeline(window=3), "ab", "cd")
    assert kept(cleaner, "bcd") == ""
    # The one that has just been accepted took the place of the oldest.
    assert kept(cleaner, "ab") == "ab"
    assert kept(cleaner, "d") == ""
    assert kept(cleaner, "c") == "c"


def test_a_duplicate_tells_its_rule_and_the_window() -> None:
    cleaner = restored(pipeline(window=3), "a")
    (cleaned,) = cleaner.clean(0, [rows(cleaner.pipeline, "ba")])
    (dropped,) = cleaned.dropped
    assert cleaned.counts == {"duplicates": 1}
    assert (dropped.position, dropped.rule, dropped.field) == (1, "duplicates", "gauge")
    assert dropped.reason == "gauge: expected a new key, got one that is among the last 3"


def test_restoring_forgets_what_was_not_committed() -> None:
    cleaner = restored(pipeline(), "a")
    assert kept(cleaner, "b") == "b"
    cleaner.restore(0, [], 0, anew=False)
    assert kept(cleaner, "ab") == "b"


def test_partitions_have_keys_of_their_own() -> None:
    cleaner = restored(pipeline(), "a")
    cleaner.restore(1, [], 0)
    assert kept(cleaner, "a", partition=1) == "a"
    assert kept(cleaner, "a", partition=0) == ""


def test_a_row_that_is_dropped_for_another_reason_leaves_no_key() -> None:
    cleaner = restored(pipeline())
    assert kept(cleaner, "a", level=11.0) == ""
    assert kept(cleaner, "a") == "a"


@pytest.mark.parametrize(
    ("of", "window"),
    [
        (pipeline(window=7), 7),
        (pipeline(duplicates="keep", window=7), 0),
        (pipeline(duplicates="keep", role="group", window=7), 0),
    ],
)
def test_the_window_is_what_has_to_be_read_back(of: Pipeline, window: int) -> None:
    assert Cleaner(of).window == window


def test_what_the_pipeline_keeps_is_kept() -> None:
    assert kept(restored(pipeline(duplicates="keep"), "a"), "aab") == "aab"
    assert kept(restored(pipeline(duplicates="keep", role="group"), "a"), "aab") == "aab"
    assert kept(restored(pipeline(out_of_range="keep")), "ab", level=11.0) == "ab"
    assert kept(restored(pipeline(duplicates="keep")), "ab", level=11.0) == ""


GAUGES = st.lists(st.text("abcdefg", max_size=1, min_size=1), max_size=40)


@given(gauges=GAUGES, cuts=st.lists(st.integers(0, 40), max_size=4), window=st.integers(1, 5), at=st.integers(0, 40))
def test_neither_batches_nor_a_restart_change_what_is_kept(
    gauges: list[str], cuts: list[int], window: int, at: int
) -> None:
    of = pipeline(window=window)
    whole = kept(restored(of), gauges)

    cleaner, parts = restored(of), []
    bounds = sorted({0, len(gauges), at, *cuts})
    for start, stop in pairwise(bounds):
        parts.append(kept(cleaner, gauges[start:stop]))
        if stop == at:
            # A restart finds at least the last `window` accepted rows in the clean topic.
            cleaner = restored(of, "".join(parts)[-window - 2 :])
    assert "".join(parts) == whole
