"""What becomes of rows on which processes die."""

import json
from collections.abc import Sequence

import pyarrow as pa
import pytest
from headrace.events.v1 import record_pb2
from headrace_data.batches import from_ipc, to_ipc
from headrace_data.records import RecordChecker
from headrace_data.spec import load_pipeline
from headrace_preprocessing.core.cleaner import Cleaner
from headrace_preprocessing.transport.suspects import BatchSuspects, attempt
from headrace_runtime.errors import Unprocessable
from headrace_runtime.record_topics import clean_topic, dead_topic, raw_topic
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.stream.dead_letters import read_letter

PIPELINE = load_pipeline("""
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: gauges}
stream:
  topic: gauges
  schema:
    - {name: gauge, type: string, role: id}
    - {name: level, type: float32, role: feature}
    - {name: state, type: int64, role: label}
train:
  network: {kind: mlp, hidden: [4]}
""")


def suspects() -> BatchSuspects:
    cleaner = Cleaner(PIPELINE)
    cleaner.restore(3, [], 0)
    return BatchSuspects(cleaner)


def message(gauges: Sequence[str]) -> Record:
    values = [json.dumps({"gauge": gauge, "level": 1.5, "state": 0}).encode() for gauge in gauges]
    rows = RecordChecker(PIPELINE.stream).check(values, [3] * len(values), range(7, 7 + len(values))).batch
    source = record_pb2.SourceRange(partition=3, start=7, end=7 + len(values))
    batch = record_pb2.RecordBatch(pipeline="gauges", arrow=to_ipc(rows), rows=rows.num_rows, sources=[source])
    return Record(raw_topic("gauges"), 3, 40, None, batch.SerializeToString())


def told(outgoing: Sequence[Outgoing]) -> tuple[list[str], list[tuple[str, str, int, bytes | None]]]:
    """Return the ids of the clean rows, and rule, topic, offset and value of each dead letter."""
    clean = [
        record_pb2.RecordBatch.FromString(each.value or b"") for each in outgoing if each.topic != dead_topic("gauges")
    ]
    assert [(source.start, source.end) for batch in clean for source in batch.sources][1:] == []
    assert {each.topic for each in outgoing} <= {clean_topic("gauges"), dead_topic("gauges")}
    records = [Record(each.topic, 3, 0, each.key, each.value, each.headers) for each in outgoing]
    letters = [read_letter(record).letter for record in records if record.topic == dead_topic("gauges")]
    kept = [gauge for batch in clean for gauge in from_ipc(batch.arrow).column("gauge").to_pylist()]
    return kept, [(letter.rule, letter.topic, letter.offset, letter.value) for letter in letters]


def test_a_bad_row_is_parked_as_its_record_also_when_it_is_the_only_one() -> None:
    for gauges in (["a", "b", "c"], ["b"]):
        record = message(gauges)
        place = gauges.index("b")
        assert suspects().rows(record) == len(gauges)
        kept, letters = told(suspects().handle_without(record, {place: "process died"}))
        row = json.dumps({"gauge": "b", "level": 1.5, "state": 0}, separators=(",", ":")).encode()
        assert kept == [gauge for gauge in gauges if gauge != "b"]
        assert letters == [("crash", "gauges", 7 + place, row)]


def test_what_is_no_message_has_no_rows_and_is_parked_with_its_bytes() -> None:
    garbage = message(["a"])._replace(value=b"\xff\xff")
    assert suspects().rows(garbage) == 0
    assert told(suspects().park(garbage, "died")) == ([], [("crash", raw_topic("gauges"), 40, b"\xff\xff")])


def test_rows_that_cannot_be_opened_are_accounted_for() -> None:
    source = record_pb2.SourceRange(partition=3, start=7, end=12)
    batch = record_pb2.RecordBatch(pipeline="gauges", arrow=b"none", rows=5, sources=[source])
    outgoing = suspects().park(message(["a"])._replace(value=batch.SerializeToString()), "died")
    clean = record_pb2.RecordBatch.FromString(outgoing[0].value or b"")
    assert (clean.rows, dict(clean.rejected), clean.sources[0].end) == (0, {"crash": 5}, 12)


@pytest.mark.parametrize("claimed", [3, 2**31])
def test_a_message_that_tells_of_more_rows_than_it_holds_is_parked_as_a_whole(claimed: int) -> None:
    sent = message(["a", "b"])
    batch = record_pb2.RecordBatch.FromString(sent.value or b"")
    batch.rows = claimed
    lies = sent._replace(value=batch.SerializeToString())
    handle = attempt({"spec": PIPELINE.canonical_json().decode()})
    refused: tuple[list[int] | None, ...] = (None, [])
    for rows in refused:
        with pytest.raises(Unprocessable, match=f"expected {claimed} rows, got 2"):
            handle([lies], rows)
    assert suspects().rows(lies) == (3 if claimed == 3 else 0)
    clean = record_pb2.RecordBatch.FromString(suspects().park(lies, "died")[0].value or b"")
    assert dict(clean.rejected) == {"crash": 3 if claimed == 3 else 1}


def test_a_batch_of_another_pipeline_is_parked_and_its_ranges_are_not_taken_over() -> None:
    sent = message(["a", "b"])
    batch = record_pb2.RecordBatch.FromString(sent.value or b"")
    batch.pipeline = "valves"
    foreign = sent._replace(value=batch.SerializeToString())
    with pytest.raises(Unprocessable, match="expected a batch of pipeline 'gauges', got one of 'valves'"):
        attempt({"spec": PIPELINE.canonical_json().decode()})([foreign], None)
    assert told(suspects().park(foreign, "died")) == ([], [("crash", raw_topic("gauges"), 40, foreign.value)])


@pytest.mark.parametrize(("partition", "start", "end"), [(3, 7, 8), (3, 8, 9), (2, 7, 9)])
def test_rows_from_outside_of_the_ranges_of_their_message_are_refused(partition: int, start: int, end: int) -> None:
    sent = message(["a", "b"])
    batch = record_pb2.RecordBatch.FromString(sent.value or b"")
    batch.sources[0].CopyFrom(record_pb2.SourceRange(partition=partition, start=start, end=end))
    with pytest.raises(Unprocessable, match=f"ranges \\({partition}:{start}-{end - 1}\\), got one of 3:"):
        attempt({"spec": PIPELINE.canonical_json().decode()})([sent._replace(value=batch.SerializeToString())], None)


def test_a_trial_handles_all_rows_or_some() -> None:
    handle = attempt({"spec": PIPELINE.canonical_json().decode()})
    for rows in (None, [], [1], [0, 1]):
        handle([message(["a", "b"])], rows)
    with pytest.raises(pa.ArrowIndexError):
        handle([message(["a", "b"])], [2])
