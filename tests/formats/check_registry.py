"""From foreign producers with a real schema registry to predictions: evolved twice, the registry away in between."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headrace.events.v1 import record_pb2
from headrace.inference.v1.record_service_pb2 import RecordHeader, SentRecord
from headrace_client import InferenceClient, predict_records
from headrace_client.errors import NotReady, Unreachable
from headrace_data.batches import from_ipc
from headrace_data.records import RecordChecker
from headrace_data.spec import load_pipeline
from headrace_local.launcher import Platform
from headrace_local.ports import find_free
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.record_topics import clean_topic, dead_topic
from headrace_runtime.records import Record
from headrace_runtime.schema_registry import SchemaRegistry
from headrace_runtime.settings import KafkaSettings

sys.path.insert(0, str(Path(__file__).parent))

from apicurio import PRODUCERS, Apicurio

pytestmark = pytest.mark.timeout(900)

KINDS = ("avro", "protobuf", "json-schema")
SENT = 200
"""Records of each generation of a schema."""
DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {kind}}}
stream:
  topic: {kind}
  format: {format}
  time: at
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: name, type: string, role: slice, nullable: true}}
    - {{name: x, type: float64, role: feature}}
    - {{name: large, type: bool, role: label}}
prepare:
  clean: {{missing: keep}}
  transform: {{x: {{scale: standard}}}}
  freeze: {{afterRecords: 600}}
train:
  network: {{kind: mlp, hidden: [8]}}
  optimizer: {{kind: adam, learningRate: 0.02}}
  epochs: 20
compress: {{variants: [{{kind: int8-dynamic}}], gates: {{baseline: ignored}}}}
"""


@pytest.fixture(scope="module")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    registry = Apicurio(tmp_path_factory.mktemp("apicurio"))
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture(scope="module")
def platform(apicurio: Apicurio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """All services, which may ask that registry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADRACE_SCHEMA_REGISTRY_HOSTS", apicurio.host)
        rest = f"127.0.0.1:{find_free(1)[0]}"
        started = Platform.on_free_ports(tmp_path_factory.mktemp("platform"), rest_address=rest)
        with started:
            yield started


def headrace(platform: Platform, *arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "headrace"), *arguments]
    environment = os.environ | platform.environment
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def send(kind: str, generation: int, platform: Platform, apicurio: Apicurio) -> None:
    start = (generation - 1) * SENT
    told = [str(generation), platform.bootstrap_servers, apicurio.url, kind, str(start), str(start + SENT)]
    script = Path(__file__).with_name("producer.py")
    subprocess.run([str(PRODUCERS), "-W", "ignore", str(script), kind, *told], check=True, timeout=120)


def read(platform: Platform, topic: str) -> list[Record]:
    with LogReader(KafkaSettings(kafka_bootstrap_servers=platform.bootstrap_servers), "test") as reader:
        places = reader.partitions(topic)
        reader.start_at(dict.fromkeys(places))
        return [record for records in reader.read_to(reader.ends(places), stall_s=30) for record in records]


def rows(platform: Platform, kind: str) -> list[dict[str, Any]]:
    messages = [decode(record, record_pb2.RecordBatch) for record in read(platform, clean_topic(kind))]
    return [row for message in messages for row in from_ipc(message.arrow).to_pylist()]


def until(condition: Callable[[], bool], within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.2)


def troubled(platform: Platform) -> bool:
    """Return whether `headrace status` tells that the registry is away."""
    command = [str(Path(sys.executable).parent / "headrace"), "status"]
    environment = os.environ | platform.environment
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    return "no answer at /schemas/ids/" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_foreign_producer_to_a_prediction(
    kind: str, platform: Platform, apicurio: Apicurio, tmp_path: Path
) -> None:
    framed = kind if kind == "json-schema" else f"{{kind: {kind}, registry: {{url: '{apicurio.url}'}}}}"
    file = tmp_path / "pipeline.yaml"
    file.write_text(DOCUMENT.format(kind=kind, format=framed))
    headrace(platform, "topic", "create", kind)
    send(kind, 1, platform, apicurio)
    send(kind, 2, platform, apicurio)

    with apicurio.away():
        headrace(platform, "apply", str(file))
        if kind == "json-schema":  # which names its values itself
            until(lambda: len(rows(platform, kind)) == 2 * SENT)
        else:
            until(lambda: troubled(platform))
            assert (rows(platform, kind), read(platform, dead_topic(kind))) == ([], [])
    until(lambda: len(rows(platform, kind)) == 2 * SENT)
    send(kind, 3, platform, apicurio)
    waited = json.loads(headrace(platform, "wait", kind, "--timeout", "300s", "--json"))
    found = rows(platform, kind)

    assert sorted(row["id"] for row in found) == list(range(3 * SENT))
    assert read(platform, dead_topic(kind)) == []
    names = {row["id"]: row["name"] for row in found}
    assert names == {n: f"n{n}" if n % 3 and n < 2 * SENT else None for n in range(3 * SENT)}
    assert all(row["large"] == (row["x"] > 0) for row in found)
    assert {row["_time"].isoformat()[:19] for row in found} == {"2025-11-29T00:00:00"}
    # Without its registry, JSON is read whatever schema it was written with.
    assert len(waited["dataset"]["writer_schemas"]) == (0 if kind == "json-schema" else 3)
    assert waited["version"]["metrics"]["accuracy"] > 0.9
    with InferenceClient(platform.addresses["inference"]) as client:
        assert client.infer(kind, {"x": np.array([-0.9, 0.9])}).outputs["label"].tolist() == [0, 1]
        ask_at_the_doors(client, kind, platform, apicurio, tmp_path)


def ask_at_the_doors(client: InferenceClient, kind: str, platform: Platform, apicurio: Apicurio, folder: Path) -> None:
    """Ask about the very bytes that the foreign producer sent: every door answers them as their fields."""
    sent = {int(record.key or b""): record.value or b"" for record in read(platform, kind)}
    first, *others = [sent[number] for number in (0, 7, SENT + 3)]  # of two generations
    last = sent[2 * SENT + 5]
    xs = {row["id"]: row["x"] for row in rows(platform, kind)}
    expected = client.infer(kind, {"x": np.array([xs[0], xs[7], xs[SENT + 3]])}).outputs["probabilities"]

    def asked(*records: bytes | SentRecord) -> list[Any]:
        return list(predict_records(client, kind, records))

    assert np.allclose([each.probabilities for each in asked(first, *others)], expected, atol=1e-6)
    if kind == "json-schema":
        return
    with apicurio.away():  # which was asked about the schemas of these, and not of the last generation
        assert len(asked(first, *others)) == len(expected)
        with pytest.raises(
            (NotReady, Unreachable), match=f"schema registry {apicurio.url}: no answer at /schemas/ids/"
        ):
            asked(first, last)
        status, _, told = over_rest(platform, kind, last)
        assert (status, "no answer at /schemas/ids/" in told["detail"]) == (503, True)
    in_header = SentRecord(value=last[5:], headers=[RecordHeader(name="__value_schema_id", value=last[:5])])
    until(lambda: _caught(asked, last) is None, 30)
    in_value, of_header, unknown = asked(last, in_header, b"\0\0\x0f\xff\xff" + last[5:])
    assert in_value.probabilities == of_header.probabilities
    assert (unknown.rule, "id 1048575" in unknown.reason) == ("schema", True)
    status, _, told = over_rest(platform, kind, last)
    assert (status, told["answers"][0]["outputs"]["label"]) == (200, in_value.label)
    file = folder / "record.bin"
    file.write_bytes(last)
    (said,) = json.loads(headrace(platform, "predict", kind, str(file), "--on-server", "--json"))
    assert said["probabilities"] == list(in_value.probabilities)


def _caught(asked: Callable[..., list[Any]], record: bytes) -> Exception | None:
    try:
        asked(record)
    except (NotReady, Unreachable) as error:
        return error
    return None


def over_rest(platform: Platform, model: str, record: bytes) -> tuple[int, Any, Any]:
    connection = HTTPConnection(platform.settings.rest_address, timeout=60)
    connection.request("POST", f"/v2/models/{model}/records", record, {"content-type": "application/octet-stream"})
    answer = connection.getresponse()
    return answer.status, answer.headers, json.loads(answer.read())


def test_the_snippet_of_the_page(platform: Platform, apicurio: Apicurio) -> None:
    headrace(platform, "topic", "create", "digits")
    page = (Path(__file__).parents[2] / "docs" / "producers.md").read_text()
    (text,) = [each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "AvroSerializer" in each]
    text = text.replace("http://127.0.0.1:8081", apicurio.url).replace("127.0.0.1:9092", platform.bootstrap_servers)
    subprocess.run([str(PRODUCERS), "-W", "ignore", "-c", text], check=True, timeout=60)
    told = f"{{kind: avro, registry: {{url: '{apicurio.url}'}}}}"
    document = (Path(__file__).parents[2] / "examples" / "digits" / "pipeline.yaml").read_text()
    stream = load_pipeline(document.replace("format: json", f"format: {told}")).stream
    values = [record.value for record in read(platform, "digits")]
    checked = RecordChecker(stream, schemas=SchemaRegistry(apicurio.url)).check(values, [0], [0])
    assert (checked.batch.column("id").to_pylist(), checked.rejected) == (["scan-5"], [])
