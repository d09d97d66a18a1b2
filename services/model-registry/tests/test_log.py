"""How the registry names messages of its log that are no entries; reading itself is tested on a real broker."""

import pytest
from headrace_model_registry.adapters.log import _described
from headrace_runtime.errors import Unprocessable
from headrace_runtime.records import Record


@pytest.mark.parametrize(
    ("timestamp_ms", "written"),
    [
        (1_700_000_000_000, "2023-11-14T22:13:20+00:00"),
        (-(2**63), "1970-01-01T00:00:00+00:00"),
        (253_402_300_800_000, "9999-12-31T23:59:59+00:00"),
        (2**63 - 1, "9999-12-31T23:59:59+00:00"),
    ],
)
def test_a_message_is_named_whatever_its_time(timestamp_ms, written):
    record = Record("log", 0, 7, None, b"?", (), timestamp_ms)
    assert _described(record, Unprocessable("why")).startswith(f"log:0:7 (written {written} by somebody")
