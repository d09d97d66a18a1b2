import json

import numpy as np
import pytest
from headrace_data.batches import from_ipc, require_columns, to_ipc
from headrace_data.errors import BatchInvalid
from headrace_data.records import RecordChecker
from headrace_data.spec import Pipeline

ROW = json.dumps({"id": "a", "team": 1, "image": None, "amount": 1.5, "age": None, "kind": "x"}).encode()


@pytest.mark.parametrize("time_us", [2**63 - 1, 253_402_300_800_000_000, -62_135_596_800_000_001])
def test_a_time_that_has_no_name_is_refused(mixed: Pipeline, time_us: int) -> None:
    times = np.array([0, time_us], "M8[us]")
    batch = RecordChecker(mixed.stream).check([ROW, ROW], [0, 0], [0, 1], None, times).batch
    with pytest.raises(BatchInvalid, match=f"expected times of the years 1 to 9999 in column '_time', got {time_us}"):
        require_columns(from_ipc(to_ipc(batch)), mixed.stream.fields)
