"""Messages of before event times were kept: bytes that an earlier version wrote, in `of_before`."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from headrace_data.batches import TIME
from headrace_data.spec import load_pipeline
from headrace_preprocessing.core.cleaner import Cleaner
from headrace_preprocessing.transport.consumer import handler
from headrace_preprocessing.transport.converters import record_batch
from headrace_runtime.records import Record

OF_BEFORE = Path(__file__).parent / "of_before"
PIPELINE = load_pipeline((OF_BEFORE / "pipeline.yaml").read_bytes())
SENT_MS = 1_764_374_400_123
SENT = datetime(2025, 11, 29, 0, 0, 0, 123_000, UTC)


def message(name: str, timestamp_ms: int = SENT_MS) -> Record:
    return Record("topic", 1, 7, None, (OF_BEFORE / f"{name}.binpb").read_bytes(), (), timestamp_ms)


@pytest.mark.parametrize(("name", "count"), [("raw", 39), ("clean", 32)])
def test_rows_of_before_have_the_time_of_the_message_that_carries_them(name: str, count: int) -> None:
    _, rows = record_batch(message(name), PIPELINE)
    assert rows.column(TIME).to_pylist() == [SENT] * count
    # Kafka's word for a message without a time is -1.
    _, rows = record_batch(message(name, timestamp_ms=-1), PIPELINE)
    assert rows.column(TIME).null_count == count


def test_a_raw_message_of_before_is_cleaned_as_it_was_and_its_rows_get_its_time() -> None:
    cleaner = Cleaner(PIPELINE)
    cleaner.restore(1, [], 0)
    written, *_ = handler(cleaner)([message("raw")])
    # The clean message is read an hour later: the time is that of the raw one.
    told, rows = record_batch(Record("topic", 1, 0, None, written.value, (), SENT_MS + 3_600_000), PIPELINE)
    before, rows_before = record_batch(message("clean"), PIPELINE)
    assert rows == rows_before
    assert (told.sources, told.rejected, told.topic_id) == (before.sources, before.rejected, before.topic_id)
