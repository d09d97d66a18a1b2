"""`forget`: a digest in the place of the key, and what is said of what was done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.forget_pb2 import (
    ErasedObject,
    ForgettingTopic,
    ForgottenDataset,
    ForgottenSegment,
    KeyDigest,
    KeyForgotten,
    SearchedObjects,
)
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_data.forgotten import forgotten
from headrace_data.spec import load_pipeline

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: digits}
stream:
  topic: digits
  personal: {key: people, fields: {id: hash}}
  schema:
    - {name: id, type: string, role: id}
    - {name: x, type: float32, role: feature}
    - {name: y, type: int64, role: label}
prepare: {}
train: {network: {kind: mlp}}
"""
DONE = KeyForgotten(
    pipeline="digits",
    request_id="request-7",
    key=KeyDigest(secret="01" * 8, digest="ab" * 16),
    segments=[ForgottenSegment(segment_id="sha256:" + "1" * 64, rows=3)],
    datasets=[ForgottenDataset(dataset_id="sha256:" + "d" * 64, train=2, test=1)],
    erased=[ErasedObject(kind="part", digest="sha256:" + "2" * 64, replacement="sha256:" + "3" * 64)],
    searched=[SearchedObjects(kind="documents", objects=7, size_bytes=700)],
    topics=[
        ForgettingTopic(topic="digits", holds="the producers' records", remark="keeps records for ever"),
        ForgettingTopic(topic="raw", holds="its records", end_time=Timestamp(seconds=1_700_600_000)),
    ],
    left=["file \x1b[2J: stays"],
)


@pytest.fixture
def answered(registry, canned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADRACE_STORE_URL", str(tmp_path / "store"))
    pipeline = load_pipeline(DOCUMENT)
    spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
    registry.pipelines = [PipelineApplied(pipeline="digits", spec=spec, partitions=3)]
    version = canned.version(messages.VERSION_STATE_RELEASED)
    registry.versions = [version, canned.version(messages.VERSION_STATE_REFUSED, letter="f")]
    registry.forgotten = [
        messages.ForgottenKey(
            forgotten=DONE, occur_time=Timestamp(seconds=1_700_000_000), version_ids=[version.trained.version_id]
        )
    ]
    registry.states = [canned.state()]
    return registry


def asked(registry) -> list[messages.ForgetKeyRequest]:
    return [each for each in registry.requests if isinstance(each, messages.ForgetKeyRequest)]


def secrets(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.joinpath("store", "forget", "digits").iterdir()]


def test_the_key_is_told_to_nobody_and_the_proof_is_written(headrace, answered, tmp_path):
    file = tmp_path / "proof.json"
    result = headrace("forget", "digits", "--yes", "--retrain", "-o", str(file), stdin="ada@example.org\n")
    assert result.exit_code == 0, result.stderr
    (secret,) = secrets(tmp_path)
    made = forgotten("ada@example.org", secret)
    (request,) = asked(answered)
    assert (request.key.secret, request.key.digest, request.retrain) == (made.secret, made.digest, True)
    assert not any(b"ada" in each.SerializeToString() for each in answered.requests)
    proof = json.loads(file.read_text())
    assert proof["format"] == "headrace.forgotten.v1"
    assert proof["datasets"] == [{"dataset_id": DONE.datasets[0].dataset_id, "train": 2, "validation": 0, "test": 1}]
    assert [each["ordinal"] for each in proof["versions"]] == [answered.versions[0].ordinal]
    assert [each["until"] for each in proof["topics"]] == [None, "2023-11-21T20:53:20+00:00"]
    assert "3 rows of 1 segments are erased; 1 objects are gone from the store, of 7 that were looked at" in " ".join(
        result.stdout.split()
    )
    assert "keeps records for ever" in result.stdout
    assert "2023-11-21" in result.stdout
    assert "file \\x1b[2J: stays" in result.stdout

    assert headrace("forget", "digits", "ada@example.org", "--yes", "--json").exit_code == 0
    assert asked(answered)[1].key == request.key
    assert secrets(tmp_path) == [secret]
    listed = json.loads(headrace("get", "forgotten", "digits", "--json").stdout)
    assert listed == [proof]
    assert " 3 " in headrace("get", "forgotten").stdout
    answered.versions[0].forgotten_keys = 1
    assert "has learned from a key that was forgotten since" in headrace("get", "versions").stdout


def test_what_producers_send_is_made_what_rows_have(headrace, answered, tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "people").write_bytes(b"k" * 32)
    assert headrace("forget", "digits", "ada", "--yes", "--keys", str(keys)).exit_code == 0
    (request,) = asked(answered)
    (secret,) = secrets(tmp_path)
    document = tmp_path / "pipeline.yaml"
    document.write_text(DOCUMENT)
    stored = headrace("personal", "stored", str(document), "id", "ada", "--keys", str(keys)).stdout.strip()
    assert request.key.digest == forgotten(stored, secret).digest != forgotten("ada", secret).digest


def test_what_came_to_nothing_is_a_failure_with_its_reason(headrace, answered, canned):
    answered.forgotten = []
    answered.states = [canned.state(failure="the forgetting of a key changed nothing: the secret is gone")]
    result = headrace("forget", "digits", "ada", "--yes")
    assert result.exit_code == 1
    assert "changed nothing: the secret is gone" in result.stderr


def test_nothing_is_asked_for_without_a_yes(headrace, answered):
    assert headrace("forget", "digits", "ada", stdin="n\n").exit_code == 1
    assert headrace("forget", "digits", "--yes", stdin="\n").exit_code == 2
    assert not asked(answered)
