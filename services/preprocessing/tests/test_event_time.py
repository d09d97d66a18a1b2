"""A dropped row keeps its time, and can be replayed by it."""

import json

import numpy as np
import pytest
from headrace_data.records import RecordChecker, Rejection
from headrace_data.spec import Pipeline, load_pipeline
from headrace_preprocessing.transport.converters import dead_letter

from .test_cleaner import DOCUMENT

US = 1_764_374_400_123_457
REJECTION = Rejection(0, "outOfRange", "level", "level: expected 0 to 10, got 11.0")


def timed(stream: str) -> Pipeline:
    document = DOCUMENT.format(duplicates="keep", out_of_range="drop", window=3, role="id")
    return load_pipeline(document.replace("  topic: gauges\n", f"  topic: gauges\n{stream}"))


def test_a_letter_tells_the_time_of_its_row() -> None:
    pipeline = timed("")
    value = b'{"gauge": "a", "level": 11, "state": 0}'
    for time, told in ((US, 1_764_374_400_123), ("NaT", 0)):
        rows = RecordChecker(pipeline.stream).check([value], [0], [4], None, np.array([time], "M8[us]")).batch
        letter = dead_letter(rows, REJECTION, pipeline)
        assert letter.timestamp_ms == told
        assert json.loads(letter.value or b"") == {"gauge": "a", "level": 11.0, "state": 0}


@pytest.mark.parametrize("written", [US, US / 1_000_000, "2025-11-29T00:00:00.123457Z"])
def test_a_row_whose_time_is_no_field_of_the_schema_has_it_in_its_letter(written: object) -> None:
    pipeline = timed("  time: at\n")
    checker = RecordChecker(pipeline.stream)
    value = json.dumps({"gauge": "a", "level": 11, "state": 0, "at": written}).encode()
    rows = checker.check([value], [0], [4]).batch
    letter = dead_letter(rows, REJECTION, pipeline)
    again = checker.check([letter.value], [0], [5])
    assert again.rejected == []
    assert again.batch.column("_time") == rows.column("_time")
