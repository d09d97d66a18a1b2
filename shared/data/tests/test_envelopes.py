"""Rows in envelopes: changes of a database, and events."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, get_args

import pytest
from headrace_data.decoders import decoder_of
from headrace_data.formats import Decoder
from headrace_data.formats.envelopes import ENVELOPES
from headrace_data.records import Checked, RecordChecker, Rejection
from headrace_data.spec import load_pipeline
from headrace_data.spec.formats import Envelope
from hypothesis import given, settings
from hypothesis import strategies as st

from .format_samples import DOCUMENT, ROWS

ROW = ROWS[0]


def check(envelope: str, *values: Any, time: str = "") -> Checked:
    told = f"json\n  envelope: {envelope}" + (f"\n  time: {time}" if time else "")
    checker = RecordChecker(load_pipeline(DOCUMENT.format(format=told)).stream)
    texts = [value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in values]
    return checker.check(texts, [0] * len(texts), range(len(texts)))


def change(op: str, **more: Any) -> dict[str, Any]:
    return {"op": op, "before": None, "after": ROW, "ts_ms": 1_764_374_400_250, **more}


def test_the_words_of_the_spec_are_those_of_the_table() -> None:
    assert set(get_args(Envelope)) == ENVELOPES.keys()


def test_a_change_is_the_row_behind_it() -> None:
    values = [change("c"), {"schema": {}, "payload": change("u")}, change("r", source={"table": "sales"})]
    checked = check("debezium", *values, time="__ts_ms")
    assert [row["id"] for row in checked.batch.to_pylist()] == [1, 1, 1]
    assert {row["_time"].isoformat() for row in checked.batch.to_pylist()} == {"2025-11-29T00:00:00.250000+00:00"}


@pytest.mark.parametrize("deletion", [None, change("d", after=None), {"schema": None, "payload": None}])
def test_a_deletion_leaves_no_row(deletion: Any) -> None:
    checked = check("debezium", change("c"), deletion, change("c"))
    assert checked.batch.column("_offset").to_pylist() == [0, 2]
    assert [(each.position, each.rule) for each in checked.rejected] == [(1, "deleted")]


@pytest.mark.parametrize(
    ("envelope", "value", "rule", "reason"),
    [
        ("debezium", ROW, "envelope", "op: expected c, r, u or d, as Debezium writes them, got null"),
        ("debezium", {"op": []}, "envelope", "got a list of 0"),
        ("debezium", {"payload": 5}, "envelope", "op: expected"),
        ("debezium", change("c", after=None), "envelope", "after: expected an object, got null"),
        ("debezium", change("c", after={"id": 1}), "missing", "amount: expected a value"),
        ("debezium", b"{", "json", "no JSON"),
        ("cloudevents", ROW, "envelope", "got an object without specversion"),
        ("cloudevents", {"specversion": "1.0", "data": [1]}, "envelope", "got a list of 1"),
        ("cloudevents", None, "json", "no value"),
    ],
)
def test_what_is_in_no_envelope(envelope: str, value: Any, rule: str, reason: str) -> None:
    (rejected,) = check(envelope, value).rejected
    assert (rejected.rule, reason in rejected.reason) == (rule, True), rejected


def test_an_event_is_its_data() -> None:
    event = {"specversion": "1.0", "id": "e1", "time": "2025-11-29T00:00:00Z", "data": ROW}
    (row,) = check("cloudevents", event, time="ce_time").batch.to_pylist()
    assert (row["id"], row["name"], row["_time"].isoformat()) == (1, "a", "2025-11-29T00:00:00+00:00")


@cache
def decoder(envelope: str) -> Decoder:
    return decoder_of(load_pipeline(DOCUMENT.format(format=f"json\n  envelope: {envelope}")).stream)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from(["c", "d", "after"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["payload", "op", "after", "data", "specversion", "x"]), inner, max_size=5),
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("envelope", ENVELOPES)
@settings(max_examples=60, deadline=None)
@given(values=st.lists(JSON, max_size=5))
def test_any_record_is_a_row_or_a_rejection(envelope: str, values: list[Any]) -> None:
    rejected: list[Rejection] = []
    rows, positions = decoder(envelope).decode([json.dumps(value).encode() for value in values], 0, rejected)
    assert sorted([*positions, *(each.position for each in rejected)]) == list(range(len(values)))
    assert all(isinstance(row, dict) for row in rows)
