"""What the process that reads records makes of them: a call that fits the version, or why there is none."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headrace import open_inference as oip
from headrace.inference.v1.record_service_pb2 import PredictRecordsRequest, RecordHeader, SentRecord
from headrace_data.spec import load_pipeline
from headrace_inference.transport import wire
from headrace_inference.transport.other_process import Ended, OtherProcess, Words
from headrace_inference.transport.records.around import read_around
from headrace_inference.transport.records.asked import Form
from headrace_inference.transport.records.bodies import sent_in
from headrace_inference.transport.records.child import Reading
from headrace_inference.transport.records.payloads import PayloadDesk
from headrace_runtime.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, TooLarge, Unavailable

FIELDS = [
    {"name": "id", "type": "string", "role": "id"},
    {"name": "width", "type": "float32", "role": "feature"},
    {"name": "count", "type": "int32", "role": "feature", "nullable": True},
    {"name": "city", "type": "string", "role": "feature", "nullable": True},
    {"name": "kind", "type": "int32", "role": "label"},
]
INPUTS = [["width", "FP32", [], False], ["count", "FP64", [], True], ["city", "BYTES", [], True]]


def asked(select: str | None = None, **told: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "apiVersion": "headrace/v1",
        "kind": "Pipeline",
        "metadata": {"name": "scans"},
        "stream": {"topic": "scans", "schema": FIELDS},
        "prepare": {"transform": {"city": {"encode": "onehot", "impute": "mostFrequent"}, "count": {"impute": "mean"}}},
        "train": {"network": {"kind": "mlp", "hidden": [8]}, "epochs": 1},
    }
    if select is not None:
        document["stream"]["select"] = select
    pipeline = load_pipeline(json.dumps(document))
    return {
        "work": "read",
        "form": "json",
        "model": "sizes",
        "version": "",
        "priority": 0,
        "records": False,
        "registry_hosts": [],
        "registry_keys": "",
        "limit_s": 5.0,
        "most": 8,
        "inputs": INPUTS,
        "digest": pipeline.digest,
        "spec": pipeline.canonical_json().decode(),
        **told,
    }


def body(*records: dict[str, Any]) -> bytes:
    return json.dumps(records).encode()


ROWS = body({"width": 1, "count": 3, "city": "Ulm"}, {"width": 2})


def test_a_call_has_what_the_version_reads_in_its_types() -> None:
    told, request = Reading().work(asked(), ROWS)
    assert (told["rows"], told["rejected"]) == ([[0, 0], [1, 0]], [])
    call = oip.ModelInferRequest.FromString(request)
    assert [(each.name, each.datatype, list(each.shape)) for each in call.inputs] == [
        ("width", "FP32", [2]),
        ("count", "FP64", [2]),
        ("city", "BYTES", [2]),
    ]
    width, count, city = call.raw_input_contents
    assert np.frombuffer(width, "<f4").tolist() == [1, 2]
    assert np.array_equal(np.frombuffer(count, "<f8"), [3, np.nan], equal_nan=True)
    assert city == b"\3\0\0\0Ulm\0\0\0\0"


def test_a_spec_is_told_once() -> None:
    reading, told = Reading(), asked()
    without = {name: value for name, value in told.items() if name != "spec"}
    assert reading.work(without, ROWS) == ({"unknown": True}, b"")
    assert reading.work(told, ROWS)[1] == reading.work(without, ROWS)[1] != b""


def test_a_record_without_what_the_version_needs_is_rejected_alone() -> None:
    needs = [["width", "FP32", [], False], ["count", "INT32", [], False], ["city", "BYTES", [], False]]
    whole = {"width": 1, "count": 3, "city": "Ulm"}
    records = body({**whole, "city": " "}, {**whole, "count": None}, whole)
    told, request = Reading().work(asked(inputs=needs), records)
    assert told["rows"] == [[2, 0]]
    assert [(record, rule, field) for record, _, rule, field, _ in told["rejected"]] == [
        (0, "missing", "city"),
        (1, "missing", "count"),
    ]
    assert list(oip.ModelInferRequest.FromString(request).inputs[0].shape) == [1]


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (["height", "FP32", [], False], "none of that name"),
        (["width", "FP32", [2], False], "float32 []"),
        (["width", "BYTES", [], False], "float32 []"),
        (["city", "FP32", [], False], "string []"),
        (["count", "INT16", [], False], "int32 []"),
        (["count", "FP32", [], True], "int32 []"),
    ],
)
def test_a_version_that_learned_from_another_schema_is_told(given: list[Any], got: str) -> None:
    with pytest.raises(FailedPrecondition, match=rf"'{given[0]}' for {given[1]} .* as it is now, got {got[:4]}"):
        Reading().work(asked(inputs=[given]), ROWS)


def test_what_the_store_does_not_give_ends_the_call() -> None:
    def failing(name: str, count: int) -> bytes:
        if name.endswith("away"):
            raise Unavailable("object store: away")
        if name.endswith("slow"):
            slow.wait(20)
        return bytes(min(count, 2**25))

    async def ask(*names: str) -> tuple[list[tuple[str, int]], bytes]:
        desk = PayloadDesk(failing)
        try:
            async with desk.fetched([f"payloads/{name}" for name in names], ["scans"], 0.2) as fetched:
                return fetched
        finally:
            slow.set()
            desk.close()

    slow = threading.Event()
    assert asyncio.run(ask("scans/a")) == ([("payloads/scans/a", 2**25)], bytes(2**25))
    for names, error, told in (
        (["scans/away"], Unavailable, "object store: away"),
        (["scans/slow"], Unavailable, "did not answer within 0.2 s"),
        (["scans/a", "scans/b"], TooLarge, "refer to at most 33554432 bytes in a call"),
        (["scans/a", "scans/a"], TooLarge, "refer to at most 33554432 bytes in a call"),
        (["scansion/a"], InvalidInput, "expected a name within payloads/scans/"),
    ):
        slow.clear()
        with pytest.raises(error, match=told):
            asyncio.run(ask(*names))


def test_what_records_refer_to_is_named_as_often_as_it_is_read() -> None:
    told = asked(form="message")
    spec = json.loads(told["spec"])
    spec["stream"]["references"] = ["scans"]
    whole = b'{"width": 1}'
    said = {"headrace-ref": "scans/a", "headrace-ref-digest": f"sha256:{hashlib.sha256(whole).hexdigest()}"}
    headers = [RecordHeader(name=name, value=value.encode()) for name, value in said.items()]
    request = PredictRecordsRequest(records=[SentRecord(headers=headers)] * 3).SerializeToString()
    reading, name = Reading(), "payloads/scans/a"
    assert reading.work({**told, "spec": json.dumps(spec)}, request) == ({"needs": [name] * 3}, b"")
    read, _ = reading.work({**told, "payloads": [[name, len(whole)]]}, request + whole)
    assert [at for at, _ in read["rows"]] == [0, 1, 2]


def test_a_spec_that_needs_what_is_not_there_is_told() -> None:
    told = asked()
    spec = json.loads(told["spec"])
    registry = {"url": "http://schemas:8081"}
    spec["stream"]["format"] = {"kind": "avro", "registry": registry}
    with pytest.raises(FailedPrecondition, match="HEADRACE_SCHEMA_REGISTRY_HOSTS"):
        Reading().work({**told, "spec": json.dumps(spec)}, ROWS)


def test_too_many_and_too_slow_end_the_call() -> None:
    with pytest.raises(TooLarge, match="at most 1 in a call, got 2"):
        Reading().work(asked(most=1), ROWS)
    with pytest.raises(DeadlineExceeded):
        Reading().work(asked("CAST(width AS DOUBLE) + 1 AS width, count, city, kind, id", limit_s=0.0), ROWS)


def test_a_moment_that_is_none_refuses_the_call() -> None:
    told = PredictRecordsRequest(records=[SentRecord(send_time=Timestamp(seconds=10**15))])
    with pytest.raises(InvalidInput, match="send_time: expected a moment"):
        sent_in(Form.MESSAGE, told.SerializeToString())


def test_the_names_of_a_request_are_read_before_its_records() -> None:
    request = PredictRecordsRequest(model="m" * 200, version="2", priority=5)
    head = request.SerializeToString()
    request.records.add(value=b"x" * 300)
    whole = request.SerializeToString()
    assert wire.head_of(whole, PredictRecordsRequest.RECORDS_FIELD_NUMBER) == head
    for end in range(len(head)):
        assert head.startswith(wire.head_of(whole[:end], 4))
    assert wire.head_of(b"\x08\xff\xff", 4) == wire.head_of(b"\x0d", 4) == wire.head_of(b"", 4) == b""


class Noting(OtherProcess):
    """Notes in which order it is asked, and answers when it may."""

    def __init__(self) -> None:
        super().__init__("none", Words("wait", "ended"))
        self.may, self.asked = asyncio.Event(), list[str]()

    async def _ask(self, told: dict[str, Any], body: bytes, limit_s: float) -> tuple[dict[str, Any], bytes]:
        self.asked.append(told["who"])
        await self.may.wait()
        return told, body


def test_callers_have_their_turns_by_priority_and_who_leaves_holds_nobody_up() -> None:
    async def run() -> list[str]:
        process = Noting()
        tasks = {
            who: asyncio.create_task(process.ask({"who": who}, b"", 9, 5.0, priority))
            for who, priority in (("first", 3), ("later", 5), ("left", 1), ("usual", 3), ("urgent", 1))
        }
        await asyncio.sleep(0)
        tasks["left"].cancel()
        await asyncio.wait([tasks["left"]])
        process.may.set()
        await asyncio.gather(*(task for who, task in tasks.items() if who != "left"))
        await process.ask({"who": "alone"}, b"", 1, 5.0)
        return process.asked

    assert asyncio.run(run()) == ["first", "urgent", "usual", "later", "alone"]


class Mortal:
    """Reads records as the process does, and dies of those that are fatal."""

    def __init__(self, body: bytes, fatal: set[int], *, deaths: int = 1_000) -> None:
        self._body, self._fatal, self._deaths = body, fatal, deaths
        self._reading = Reading()
        self.asked = 0

    async def __call__(self, told: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        self.asked += 1
        left_out = {at for start, end in told.get("without", ()) for at in range(start, 99 if end is None else end)}
        if told["work"] == "read" and self._fatal - left_out and self._deaths:
            self._deaths -= 1
            raise Ended("it ended")
        return self._reading.work(told, self._body)


MANY = body(*({"width": at} for at in range(6)), {"width": "x"})


@pytest.mark.parametrize("fatal", [{0}, {5}, {2, 3}, {0, 5}])
def test_a_record_of_which_the_process_dies_is_rejected_alone(fatal: set[int]) -> None:
    told, request = asyncio.run(read_around(Mortal(MANY, fatal), asked()))
    assert [at for at, _ in told["rows"]] == [at for at in range(6) if at not in fatal]
    rules = {at: rule for at, _, rule, _, _ in told["rejected"]}
    assert rules == {6: "type"} | dict.fromkeys(fatal, "crash")
    widths = oip.ModelInferRequest.FromString(request).raw_input_contents[0]
    assert np.frombuffer(widths, "<f4").tolist() == [at for at, _ in told["rows"]]


def test_a_death_that_was_of_no_record_costs_one_more_look() -> None:
    ask = Mortal(MANY, {1}, deaths=0)
    told, _ = asyncio.run(read_around(ask, asked()))
    assert (len(told["rows"]), ask.asked) == (6, 1)
    with pytest.raises(Unavailable, match="12 times"):
        asyncio.run(read_around(Mortal(body(*[{"width": 1}] * 8), set(range(8))), asked()))


def test_a_process_that_does_not_start_is_no_records_fault() -> None:
    async def told_by(module: str) -> type[BaseException]:
        process = OtherProcess(module, Words("wait", "ended"))
        with pytest.raises(Unavailable, match="does not start") as raised:
            await process.ask({}, b"", 1, 5.0)
        return raised.type

    assert asyncio.run(told_by("headrace_inference.of_no_such_name")) is Unavailable
