"""Personal data on its way through preprocessing: masked, or rejected without a copy of it."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
from headrace.events.v1 import record_pb2
from headrace_data.batches import from_ipc, to_ipc
from headrace_data.records import RecordChecker
from headrace_data.spec import Pipeline, load_pipeline
from headrace_preprocessing.core.cleaner import Cleaner
from headrace_preprocessing.core.filling import Filling
from headrace_preprocessing.transport.consumer import handler
from headrace_preprocessing.transport.converters import Origin, leave_out, provenance
from headrace_runtime.records import Record
from headrace_runtime.stream.dead_letters import read_letter

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: asked}}
stream:
  topic: asked
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: question, type: string, role: feature}}
    - {{name: answer, type: string, role: label}}
prepare: {{clean: {{{clean}}}, transform: {{question: {{encode: text}}}}}}
train: {{task: generation, network: {{kind: causal-lm, digest: "sha256:{digest}", sizeBytes: 7}}}}
"""
POLICY = "personal: {fields: [question, answer], email: mask, card: reject}"
CARD = "4111 1111 1111 1111"


def pipeline_of(clean: str = POLICY) -> Pipeline:
    return load_pipeline(DOCUMENT.format(clean=clean, digest="ab" * 32))


def rows(pipeline: Pipeline, *texts: str) -> pa.RecordBatch:
    values = [
        json.dumps({"id": place, "question": "who?", "answer": text}).encode() for place, text in enumerate(texts)
    ]
    return RecordChecker(pipeline.stream).check(values, [0] * len(texts), range(len(texts))).batch


def test_what_is_rejected_leaves_its_place_and_reason_alone() -> None:
    pipeline = pipeline_of()
    batch = rows(pipeline, "a@example.org or b@example.org", f"pay with {CARD}", "nothing")
    raw = record_pb2.RecordBatch(pipeline="asked", arrow=to_ipc(batch), rows=3)
    raw.sources.add(partition=0, start=0, end=3)
    raw.masked["email"] = 1
    raw.unread["answer"] = 4
    raw.writer_schemas.append("sha256:1")
    cleaner = Cleaner(pipeline)
    cleaner.restore(0, [], 0)

    clean, dead = handler(cleaner)([Record("records.asked.raw.v1", 0, 7, None, raw.SerializeToString())])

    message = record_pb2.RecordBatch.FromString(clean.value or b"")
    assert from_ipc(message.arrow)["answer"].to_pylist() == ["[email] or [email]", "nothing"]
    assert (dict(message.masked), dict(message.rejected)) == ({"email": 3}, {"personal": 1})
    assert (dict(message.unread), list(message.writer_schemas)) == ({"answer": 4}, ["sha256:1"])
    letter = read_letter(Record(dead.topic, 0, 0, dead.key, dead.value, dead.headers)).letter
    assert (letter.rule, letter.field, letter.offset) == ("personal", "answer", 1)
    assert json.loads(letter.value or b"") == {"id": 1}
    assert CARD not in repr(dead)


def test_rows_that_were_cleaned_by_an_earlier_spec_are_masked_when_they_are_cut() -> None:
    waiting = rows(pipeline_of("missing: drop"), "a@example.org", CARD, "nothing")
    pipeline = pipeline_of()

    left = leave_out(waiting, pipeline)

    assert left.rows["answer"].to_pylist() == ["[email]", "nothing"]
    assert (left.masked, left.rejected) == ({"email": 1}, {"personal": 1})
    assert leave_out(left.rows, pipeline).rows == left.rows
    filling = Filling(masked=left.masked + left.masked, unread=Counter(answer=2))  # type: ignore[operator]
    origin = Origin("c", "t")
    told = provenance(filling, pipeline, origin, {}, {}, left.masked)
    assert (told.masked, told.unread) == ({"email": 3}, {"answer": 2})
