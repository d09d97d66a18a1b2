"""`push`: what is sent of a file, how long it waits, and what is said, of an ingestion service on a real socket."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec
from headrace.events.v1.record_pb2 import RecordRejected
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace_client import pushing
from headrace_client.errors import Rejected, TooLarge, Unreachable
from headrace_client.ingestion import IngestionClient
from headrace_data.files import AT_ONCE
from headrace_data.spec import load_pipeline
from PIL import Image

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: meters}
stream:
  topic: meters
  format: json
  schema:
    - {name: id, type: string, role: id}
    - {name: level, type: float64, role: feature}
    - {name: state, type: int64, role: label}
prepare: {}
train: {network: {kind: mlp, hidden: [4]}, optimizer: {kind: adam, learningRate: 0.01}, epochs: 1, batchSize: 8}
"""
SERVICE = messages.DESCRIPTOR.services_by_name["IngestionService"].full_name
BROKEN = b"\x89PNG\r\n\x1a\n" + (5).to_bytes(4) + b"IHDR" + bytes(9)
"""A picture whose header is too short."""
PUSHBACK = (("grpc-retry-pushback-ms", "1"),)
Refusal = tuple[grpc.StatusCode, Any]


@dataclass
class FakeIngestion:
    """Takes every record that has no "bad" in it; before that it refuses, as it is told to, some batches on."""

    refusals: list[Refusal] = field(default_factory=list)
    refused_from: int = 0
    """Batches of a stream that are answered before it is refused."""
    unread: list[grpc.StatusCode] = field(default_factory=list)
    """How streams end before anything of them is read."""
    opened: threading.Event = field(default_factory=threading.Event)
    """Set once a stream is read."""
    ended: int = 0
    """Streams that were read and answered to their end."""
    taken: dict[str, messages.PushRequest] = field(default_factory=dict)
    address: str = ""

    def push_stream(self, requests: Any, context: Any) -> Iterator[messages.PushStreamResponse]:
        if self.unread:
            context.abort(self.unread.pop(0), "not now")
        self.opened.set()
        for at, each in enumerate(requests):
            if at >= self.refused_from and self.refusals:
                code, trailing = self.refusals.pop(0)
                context.set_trailing_metadata(trailing)
                context.abort(code, "not now")
            yield messages.PushStreamResponse(batch_id=each.batch.batch_id, answer=self.push(each.batch))
        self.ended += 1

    def push(self, request: messages.PushRequest) -> messages.PushResponse:
        known = request.batch_id in self.taken
        self.taken.setdefault(request.batch_id, request)
        bad = [at for at, each in enumerate(request.records) if b"bad" in each]
        rejected = [RecordRejected(index=at, rule="type", reason="level: expected a number") for at in bad]
        return messages.PushResponse(accepted=len(request.records) - len(bad), rejected=rejected, repeated_batch=known)

    @property
    def batches(self) -> list[messages.PushRequest]:
        return list(self.taken.values())

    @property
    def records(self) -> list[bytes]:
        return [each for request in self.batches for each in request.records]


@pytest.fixture
def ingestion(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeIngestion]:
    fake = FakeIngestion()
    server = grpc.server(ThreadPoolExecutor(4))
    push = grpc.stream_stream_rpc_method_handler(
        fake.push_stream, messages.PushStreamRequest.FromString, messages.PushStreamResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"PushStream": push}),))
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    monkeypatch.setenv("HEADRACE_INGESTION_ADDRESS", fake.address)
    yield fake
    server.stop(grace=None).wait()


def applied(registry: Any, stream_format: str = "json") -> None:
    pipeline = load_pipeline(DOCUMENT.replace("format: json", f"format: {stream_format}"))
    spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
    registry.pipelines = [PipelineApplied(pipeline="meters", spec=spec, partitions=1)]


def lines(count: int) -> list[bytes]:
    return [json.dumps({"id": f"m{number}", "level": number / 4, "state": 1}).encode() for number in range(count)]


def test_lines_are_sent_as_they_are_in_batches_that_come_again(headrace, registry, ingestion, tmp_path) -> None:
    applied(registry)
    path, sent = tmp_path / "m.jsonl", lines(AT_ONCE + 9)
    sent[3] = b'{"bad": 1}'
    path.write_bytes(b"\n".join([*sent[:2], b"", *sent[2:]]))
    first = headrace("push", "meters", str(path))
    assert first.exit_code == 0, first.stderr
    assert first.stdout.splitlines() == [
        f"m.jsonl: {len(sent) - 1:,} of {len(sent):,} rows accepted",
        "1 rejected (type 1): `headrace dead groups meters` says what would accept them",
        "  type: row 5: level: expected a number",
    ]
    assert ingestion.records == sent
    assert {request.form for request in ingestion.taken.values()} == {messages.RECORD_FORM_UNSPECIFIED}
    again = headrace("push", "meters", str(path), "--json")
    (told,) = json.loads(again.stdout)["files"]
    assert told == {
        "file": "m.jsonl",
        "rows": len(sent),
        "accepted": len(sent) - 1,
        "again": len(sent),
        "rejected": {"type": 1},
        "examples": {"type": ["row 5: level: expected a number"]},
    }
    assert ingestion.records == sent
    path.write_bytes(b"\n".join(sent))
    assert json.loads(headrace("push", "meters", str(path), "--json").stdout)["files"][0]["again"] == 0


def written(file_format: str, rows: list[dict[str, Any]]) -> bytes:
    sink, table = io.BytesIO(), pa.Table.from_pylist(rows)
    if file_format == "parquet":
        pq.write_table(table, sink)
    elif file_format == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), delimiter=";", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode("windows-1252")
    else:
        make = pa.ipc.new_file if file_format == "feather" else pa.ipc.new_stream
        with make(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("file_format", ["csv", "parquet", "feather", "arrows"])
def test_rows_of_every_format_are_sent_as_rows_of_a_file(headrace, registry, ingestion, tmp_path, file_format) -> None:
    applied(registry, "{kind: csv, columns: [state, level, id]}")
    rows = [{"more": "é", "id": f"m{number}", "level": number / 4, "state": 1} for number in range(20)]
    path = tmp_path / f"m.{file_format}"
    path.write_bytes(written(file_format, rows))
    encoding = ("--encoding", "windows-1252") if file_format == "csv" else ()
    done = headrace("push", "meters", str(path), *encoding)
    assert done.exit_code == 0, done.stderr
    assert [json.loads(each) for each in ingestion.records] == [
        {name: value for name, value in row.items() if name != "more"} for row in rows
    ]
    assert {request.form for request in ingestion.taken.values()} == {messages.RECORD_FORM_FILE_ROW}
    if file_format == "csv":
        refused = headrace("push", "meters", str(path))
        assert (refused.exit_code, len(ingestion.taken)) == (1, 1)
        assert "m.csv: expected UTF-8, got the byte 0xe9 in line 2." in refused.stderr
        assert "say --encoding windows-1252" in refused.stderr


def test_what_waits_is_sent_again_and_what_is_refused_is_not(registry, ingestion, monkeypatch) -> None:
    ingestion.refusals = [
        (grpc.StatusCode.NOT_FOUND, PUSHBACK),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, PUSHBACK),
        (grpc.StatusCode.UNAVAILABLE, PUSHBACK),
    ]
    with IngestionClient(ingestion.address) as client:
        assert client.push("meters", "1", [b"{}"]).accepted == 1
        assert client.push("meters", "1", [b"{}"]).repeated_batch
        assert ingestion.ended == 2, "who has the answer cancels nothing"
        ingestion.unread = [grpc.StatusCode.UNIMPLEMENTED]
        with pytest.raises(Rejected, match="expected one that knows PushStream, got an older one: upgrade it"):
            client.push("meters", "2", [b"{}"])
        ingestion.refusals = [(grpc.StatusCode.RESOURCE_EXHAUSTED, ())]
        with pytest.raises(TooLarge):
            client.push("meters", "2", [b"{}"])
        ingestion.refusals, ingestion.refused_from = [(grpc.StatusCode.RESOURCE_EXHAUSTED, PUSHBACK)] * 3, 2
        requests = [messages.PushRequest(pipeline="meters", batch_id=f"b{at}", records=[b"{}"]) for at in range(9)]
        answers = [(request.batch_id, answer.accepted) for request, answer in client.push_all(requests)]
        assert answers == [(f"b{at}", 1) for at in range(9)]
        assert list(ingestion.taken) == ["1", *(f"b{at}" for at in range(9))]

        def broken() -> Iterator[messages.PushRequest]:
            yield requests[0]
            raise ValueError("no file any more")

        found: list[bool] = []
        with pytest.raises(ValueError, match="no file any more"):
            found.extend(answer.repeated_batch for _, answer in client.push_all(broken()))
        assert found == [True]
        ingestion.refusals = [(grpc.StatusCode.DEADLINE_EXCEEDED, ())]
        assert len(list(client.push_all(requests))) == len(requests)


def test_a_source_may_wait_for_answers_and_for_long_between_its_batches(registry, ingestion) -> None:
    requests = [messages.PushRequest(pipeline="meters", batch_id=f"b{at}", records=[b"{}"]) for at in range(3)]
    answered, waited = threading.Event(), list[bool]()

    def live() -> Iterator[messages.PushRequest]:
        # Nothing is there yet as the first stream ends.
        waited.append(ingestion.opened.wait(20))
        yield requests[0]
        waited.append(answered.wait(20))
        ingestion.refusals = [(grpc.StatusCode.UNAVAILABLE, ())]
        yield from requests[1:]

    ingestion.unread = [grpc.StatusCode.DEADLINE_EXCEEDED]
    with IngestionClient(ingestion.address) as client:
        for _ in client.push_all(live(), patience_s=0):
            answered.set()
        assert waited == [True, True]
        assert ingestion.batches == requests
        ingestion.refusals = [(grpc.StatusCode.UNAVAILABLE, ())] * 2
        with pytest.raises(Unreachable):
            list(client.push_all(requests, patience_s=0))


def test_a_folder_of_pictures_is_drafted_and_pushed_file_by_file(headrace, registry, ingestion, tmp_path) -> None:
    folder, document = tmp_path / "Sizes", tmp_path / "sizes.yaml"
    for number in range(6):
        path = folder / ("large" if number % 2 else "small") / f"{number}.PNG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 9 if number == 5 else 8), 40 * number).save(path)
    (folder / ".thumbs" / "x").mkdir(parents=True)
    for stray in (folder / "read.me", folder / ".thumbs" / "x" / "1.png", folder / "small" / "bad.jpg"):
        stray.write_bytes(b"bad")
    (folder / "small" / "short.png").write_bytes(BROKEN)
    drafted = headrace("init", "--from", str(folder), "--output", str(document))
    assert drafted.exit_code == 0, drafted.stderr
    assert "2 of them would be rejected: image 2" in drafted.stderr
    assert f"`headrace push sizes {folder}`" in drafted.stdout
    pipeline = load_pipeline(document.read_text())
    told = [(each.name, each.role, each.shape) for each in pipeline.stream.fields]
    assert told == [("id", "id", ()), ("picture", "feature", (8, 8)), ("label", "label", ())]
    assert pipeline.stream.format_told["size"] == "resize"
    spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
    registry.pipelines = [PipelineApplied(pipeline="sizes", spec=spec, partitions=1)]
    pushed = headrace("push", "sizes", str(folder))
    assert pushed.exit_code == 0, pushed.stderr
    assert pushed.stdout.splitlines() == [
        "Sizes: 7 of 8 rows accepted",
        "1 rejected (type 1): `headrace dead groups sizes` says what would accept them",
        "  type: small/bad.jpg: level: expected a number",
    ]
    (request,) = ingestion.taken.values()
    beside = {each.key.decode(): each.headers[0].value.decode() for each in request.contexts}
    assert beside == {str(path.relative_to(folder)): path.parent.name for path in folder.glob("[!.]*/*")}
    assert json.loads(headrace("push", "sizes", str(folder), "--json").stdout)["files"][0]["again"] == 8
    (folder / "small" / "bad.jpg").rename(folder / "small" / os.fsdecode(b"\xff.jpg"))
    for refused in (headrace("push", "sizes", str(folder)), headrace("init", "--from", str(folder))):
        assert refused.exit_code == 1
        assert "'small/\\udcff.jpg': expected a file's name in UTF-8" in refused.stderr
    (folder / "small" / os.fsdecode(b"\xff.jpg")).unlink()
    applied(registry)
    refused = headrace("push", "meters", str(folder))
    assert refused.exit_code == 1
    assert "expected a pipeline whose stream.format is that, got json" in refused.stderr


def test_large_rows_make_smaller_batches(headrace, registry, ingestion, tmp_path, monkeypatch) -> None:
    applied(registry)
    monkeypatch.setattr(pushing, "MOST_BYTES", 200)
    path, sent = tmp_path / "m.jsonl", lines(20)
    path.write_bytes(b"\n".join(sent))
    assert headrace("push", "meters", str(path)).exit_code == 0
    assert ingestion.records == sent
    assert [len(request.records) for request in ingestion.batches] == [5] * 4
