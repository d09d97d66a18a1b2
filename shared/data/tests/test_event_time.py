import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from headrace_data.batches import from_ipc, require_columns, to_ipc
from headrace_data.errors import BatchInvalid
from headrace_data.event_time import FUTURE, TIME_RULE
from headrace_data.records import Checked, RecordChecker
from headrace_data.spec import Pipeline, load_pipeline, parse_canonical
from hypothesis import given
from hypothesis import strategies as st

from .conftest import MIXED

MOMENT = datetime(2026, 11, 29, 10, 0, 0, 250_000, UTC)
SECONDS = MOMENT.timestamp()
ROW: dict[str, Any] = {"id": "a", "team": 1, "image": None, "amount": 1.5, "age": None, "kind": "x"}
ABSENT = object()


def timed(**stream: str) -> Pipeline:
    keys = "".join(f"  {name}: {value}\n" for name, value in stream.items())
    return load_pipeline(MIXED.replace("  topic: mixed\n", f"  topic: mixed\n{keys}"))


def check(pipeline: Pipeline, *times: object, now_s: float | None = None) -> Checked:
    values = [json.dumps(ROW | ({} if time is ABSENT else {"at": time})).encode() for time in times]
    return RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)), now_s=now_s)


@pytest.mark.parametrize(
    "written",
    [
        SECONDS,
        int(SECONDS * 1_000),
        int(SECONDS * 1_000_000),
        "2026-11-29T10:00:00.25Z",
        "2026-11-29T11:00:00.250+01:00",
        "20261129T100000.250000000+0000",
    ],
)
def test_a_field_says_when_in_any_of_its_forms(written: object) -> None:
    checked = check(timed(time="at"), written)
    assert checked.rejected == []
    assert checked.batch.column("_time").to_pylist() == [MOMENT]


def test_records_of_one_batch_may_say_it_in_different_forms() -> None:
    checked = check(timed(time="at"), 1_764_374_400, "2025-11-29T00:00:00Z", 1_764_374_400_000.0, -1, "1950-01-01T00Z")
    assert checked.rejected == []
    whole = datetime(2025, 11, 29, tzinfo=UTC)
    before = [datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(1950, 1, 1, tzinfo=UTC)]
    assert checked.batch.column("_time").to_pylist() == [whole] * 3 + before


@pytest.mark.parametrize(
    ("written", "got"),
    [
        (ABSENT, "expected a time, got none"),
        (None, "expected a time, got none"),
        ("2026-11-29T10:00:00", 'got "2026-11-29T10:00:00"'),
        ("2026-11-29", 'got "2026-11-29"'),
        ("2026-02-30T00:00:00Z", 'got "2026-02-30T00:00:00Z"'),
        ("1764374400", 'got "1764374400"'),
        ("", 'got ""'),
        (True, "got true"),
        ([2026, 11, 29], "got a list of 3"),
        ({"seconds": 5}, "got an object"),
        (2**63, f"got {2**63}"),
        (-(2**63), f"got {-(2**63)}"),
        (2.6e17, "got 2.6e+17"),
        ("0001-01-01T00:00:00+14:00", 'got "0001-01-01T00:00:00+14:00"'),
    ],
)
def test_a_time_that_is_none_stops_its_record_alone_and_is_named(written: object, got: str) -> None:
    checked = check(timed(time="at"), SECONDS, written, SECONDS)
    assert checked.batch.column("_offset").to_pylist() == [0, 2]
    (rejection,) = checked.rejected
    assert (rejection.position, rejection.rule, rejection.field) == (1, TIME_RULE, "at")
    assert rejection.reason.startswith("at: expected a time")
    assert rejection.reason.endswith(got)


def test_the_key_may_be_any_text() -> None:
    pipeline = timed(time='"@timestamp"')
    value = json.dumps(ROW | {"@timestamp": "2026-11-29T12:00:00.250+02:00"}).encode()
    assert RecordChecker(pipeline.stream).check([value], [0], [0]).batch.column("_time").to_pylist() == [MOMENT]
    assert check(pipeline, SECONDS).rejected[0].reason == "@timestamp: expected a time, got none"


def test_the_field_may_be_one_of_the_schema() -> None:
    pipeline = timed(time="amount")
    document = MIXED.replace("range: [0, 100]}", "unit: s}").replace(
        "  topic: mixed\n", "  topic: mixed\n  time: amount\n"
    )
    value = json.dumps(ROW | {"amount": SECONDS}).encode()
    checked = RecordChecker(load_pipeline(document).stream).check([value], [0], [0])
    assert checked.batch.column("amount").to_pylist() == [SECONDS]
    assert checked.batch.column("_time").to_pylist() == [MOMENT]
    assert check(pipeline, ABSENT).batch.column("_time").to_pylist() == [datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)]


@given(st.lists(st.integers(126_230_400_000_000, 4_102_444_800_000_000), min_size=1))
def test_every_form_of_a_time_of_1974_to_2099_is_the_same_time(micros: list[int]) -> None:
    moments = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micro) for micro in micros]
    texts = [moment.isoformat() for moment in moments]
    for written in (micros, texts, [micro / 1_000_000 for micro in micros], [micro / 1_000 for micro in micros]):
        assert check(timed(time="at"), *written).batch.column("_time").to_pylist() == moments


@pytest.mark.parametrize("ahead", ["1h", "90m"])
def test_a_time_too_far_ahead_of_the_clock_is_refused_and_one_just_in_time_is_not(ahead: str) -> None:
    pipeline = timed(time="at", maxAhead=ahead)
    limit_s = SECONDS + pipeline.stream.max_ahead
    checked = check(pipeline, limit_s, limit_s + 0.001, "2099-01-01T00:00:00Z", SECONDS, None, now_s=SECONDS)
    assert checked.batch.column("_offset").to_pylist() == [0, 3]
    assert [(each.position, each.rule, each.field) for each in checked.rejected] == [
        (1, FUTURE, "at"),
        (2, FUTURE, "at"),
        (4, TIME_RULE, "at"),
    ]
    limit = {"1h": "11:00:00Z, which is maxAhead (3600s)", "90m": "11:30:00Z, which is maxAhead (5400s)"}[ahead]
    wanted = f"at: expected a time up to 2026-11-29T{limit} from now"
    assert checked.rejected[1].reason == f"{wanted}, got 2099-01-01T00:00:00Z"


def test_a_message_s_time_too_far_ahead_is_refused_and_an_unknown_one_is_not(mixed: Pipeline) -> None:
    times = np.array([MOMENT.replace(tzinfo=None), "2099-01-01T00:00:00", "NaT"], "M8[us]")
    value = json.dumps(ROW).encode()
    checked = RecordChecker(mixed.stream).check([value] * 3, [0] * 3, range(3), None, times, SECONDS)
    assert checked.batch.column("_time").to_pylist() == [MOMENT, None]
    (rejection,) = checked.rejected
    assert (rejection.position, rejection.rule, rejection.field) == (1, FUTURE, "")
    assert rejection.reason.startswith("timestamp of the message: expected a time up to 2026-11-29T11:00:00Z")


def test_a_spec_that_says_nothing_of_time_keeps_its_digest(mixed: Pipeline) -> None:
    assert mixed.digest == "sha256:e0bc7b57937d0b78f5d74d87ef063848d9cd88fdde257fe0edca3293030b616d"
    assert timed(maxAhead="60m").digest == mixed.digest
    told = timed(time="at", maxAhead="2h")
    assert parse_canonical(told.canonical_json()) == told
    assert told.digest != mixed.digest
    # Times are no part of what a row is.
    assert (told.schema_digest, told.prepare_digest) == (mixed.schema_digest, mixed.prepare_digest)
    assert told.preparation != mixed.preparation


@pytest.mark.parametrize("time_us", [2**63 - 1, 253_402_300_800_000_000, -62_135_596_800_000_001])
def test_a_time_that_has_no_name_is_refused(mixed: Pipeline, time_us: int) -> None:
    times, value = np.array([0, time_us], "M8[us]"), json.dumps(ROW).encode()
    batch = RecordChecker(mixed.stream).check([value, value], [0, 0], [0, 1], None, times).batch
    with pytest.raises(BatchInvalid, match=f"expected times of the years 1 to 9999 in column '_time', got {time_us}"):
        require_columns(from_ipc(to_ipc(batch)), mixed.stream.fields)
