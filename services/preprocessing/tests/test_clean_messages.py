"""What is believed of a message of the clean topic before its rows are looked at."""

from __future__ import annotations

import pytest
from headrace.events.v1 import record_pb2
from headrace_data.batches import to_ipc
from headrace_data.records import RecordChecker
from headrace_data.spec import load_pipeline
from headrace_preprocessing.transport.clean_messages import CleanMessages
from headrace_runtime.records import Record

PIPELINE = load_pipeline("""
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: few}
stream:
  topic: few
  schema:
    - {name: key, type: int64, role: id}
    - {name: on, type: bool, role: feature}
    - {name: label, type: int64, role: label}
train:
  network: {kind: mlp, hidden: [4]}
""")


def message(count: int, told: int) -> Record:
    values = [b'{"key": 1, "on": true, "label": 1}'] * count
    rows = RecordChecker(PIPELINE.stream).check(values, [0] * count, range(count)).batch
    batch = record_pb2.RecordBatch(pipeline="few", arrow=to_ipc(rows), rows=told)
    batch.sources.add(partition=0, start=0, end=count)
    return Record("records.few.clean.v1", 0, 7, None, batch.SerializeToString())


@pytest.mark.parametrize("told", [2**32 - 1, 100_000])
def test_more_rows_than_there_is_room_for_are_not_believed(told: int) -> None:
    troubles: list[tuple[str, str]] = []
    messages = CleanMessages(PIPELINE, lambda *trouble: troubles.append(trouble), lambda _: True)
    assert messages.batch(message(1_000, told)) is None
    ((place, reason),) = troubles
    assert place == "records.few.clean.v1:0:7"
    assert f"bytes, got {told}" in reason


@pytest.mark.parametrize("count", [0, 1, 1_000, 100_000])
def test_the_rows_that_there_are_have_room(count: int) -> None:
    messages = CleanMessages(PIPELINE, lambda *_: pytest.fail("told of trouble"), lambda _: True)
    found = messages.batch(message(count, count))
    assert found is not None
    assert found.rows == count
