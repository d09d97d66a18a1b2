"""Messages whose rows cannot be read are accounted for, whatever format their producers write."""

from __future__ import annotations

import pytest
from headrace.events.v1 import record_pb2
from headrace_data.spec import load_pipeline
from headrace_preprocessing.transport.converters import unreadable
from headrace_runtime.records import Record

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: meters}
stream:
  topic: meters
  format: {kind: protobuf, schema: 'syntax = "proto3"; message Meter { string id = 1; float x = 2; bool y = 3; }'}
  schema:
    - {name: id, type: string, role: id}
    - {name: x, type: float32, role: feature}
    - {name: y, type: bool, role: label}
train: {network: {kind: mlp, hidden: [4]}}
"""


def test_no_schema_of_the_producers_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = load_pipeline(DOCUMENT)

    def fails(_: object) -> None:
        raise ChildProcessError(10, "protoc was ended by signal 9")

    monkeypatch.setattr("headrace_data.formats.proto_schemas._run_protoc", fails)
    raw = record_pb2.RecordBatch(pipeline="meters", arrow=b"none", rows=2)
    raw.sources.add(partition=0, start=4, end=6)
    record = Record("headrace.records.meters.raw.v1", 0, 7, None, raw.SerializeToString())
    empty, letter = unreadable(record, "process died: SIGSEGV", pipeline)
    told = record_pb2.RecordBatch.FromString(empty.value or b"")
    assert (told.rows, dict(told.rejected), told.sources[0].end) == (0, {"crash": 2}, 6)
    assert letter.topic == "headrace.records.meters.dead.v1"
