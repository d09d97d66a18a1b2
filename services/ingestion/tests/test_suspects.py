"""Records that are tried in a process of their own are read there by the same formats and registries."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from headrace_data.decoders import schemas_of
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.transport import suspects
from headrace_runtime.errors import Unavailable, Unprocessable
from headrace_runtime.records import Record
from headrace_runtime.schema_registry import RegistryAccess

SCHEMA = {
    "type": "record",
    "name": "Meter",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "level", "type": "float"},
        {"name": "state", "type": "int"},
    ],
}
VALUE = b"\0\0\0\0\7" + b"\2a" + b"\0\0\0\x3f" + b"\6"


def test_a_trial_asks_the_registry(
    new_intake: Callable[..., Intake], schema_server: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = schema_server()
    server.add(7, json.dumps(SCHEMA))
    pipeline = new_intake(stream=f"format: {{kind: avro, registry: {{url: '{server.url}'}}}}").pipeline
    access = RegistryAccess(frozenset({server.host}))
    intake = Intake(pipeline, 900_000, 1_000, schemas=schemas_of(pipeline.stream, access))
    told: list[Any] = []
    monkeypatch.setattr(suspects, "Trial", lambda _, setup: told.append(json.loads(json.dumps(setup))))
    suspects.IntakeSuspects(intake, access).open_trial()

    record = Record("meters", 0, 3, None, VALUE)
    found: Any = suspects.attempt(told[0])([record], None)
    assert [message.topic for message in found] == ["headrace.records.meters.raw.v1"]
    server.answer = (500, b"")
    with pytest.raises(Unavailable, match="got 500"):
        suspects.attempt(told[0])([record], None)
    server.close()
    with pytest.raises(Unprocessable, match="HEADRACE_SCHEMA_REGISTRY_HOSTS"):
        suspects.attempt({**told[0], "registry_hosts": []})
