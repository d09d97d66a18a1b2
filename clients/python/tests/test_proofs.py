"""`verify` and `prove`: what they ask for, and what they find in a log."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from headrace.events.v1.dataset_pb2 import DatasetFailed
from headrace.registry.v1 import proof_pb2
from headrace.registry.v1.registry_log_pb2 import LogEntry
from headrace_client.proofs import HEAD_FORMAT
from headrace_data.identity import MerkleTree

TIME = "2026-01-31T12:00:00.000Z"


@pytest.fixture
def key(tmp_path):
    private = Ed25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(private.public_key().public_bytes(*form))
    return private


def head_of(tree, key=None):
    """Return the head of a log, signed as docs/proofs.md and the contracts say."""
    said = {"root": tree.root().hex(), "size": tree.leaves, "time": TIME}
    head = proof_pb2.LogHead(**said)
    if key:
        signed = f"{HEAD_FORMAT}\n{json.dumps(said, separators=(',', ':'))}".encode()
        head.key = hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()
        head.signature = base64.b64encode(key.sign(signed)).decode()
    return head


@pytest.fixture
def log(registry, key):
    """A log of five entries, the first two of which are of before it was chained."""
    tree, lines = MerkleTree(), []
    for number in range(5):
        entry = LogEntry(dataset_failed=DatasetFailed(pipeline="p", reason=str(number)))
        if number > 1:
            entry.entries_before, entry.root_before = tree.leaves, tree.root()
        lines.append((3 * number, entry.SerializeToString()))
        tree.append(lines[-1][1])
    registry.log, registry.head = tuple(lines), head_of(tree, key)
    return tree


def test_a_whole_log_is_told_and_its_head_saved_and_compared_later(headrace, registry, log, key, tmp_path):
    saved, public = tmp_path / "head.json", tmp_path / "public.pem"
    result = headrace("verify", "--key", str(public), "--save", str(saved))
    assert result.exit_code == 0, result.stderr
    root = log.root().hex()
    assert f"5 entries, chained since offset 6; head {root} at {TIME}, signed with key" in result.stdout
    registry.log = (*registry.log, (15, LogEntry(entries_before=5, root_before=log.root()).SerializeToString()))
    log.append(registry.log[-1][1])
    registry.head = head_of(log, key)
    found = headrace("verify", "--head", str(saved), "--key", str(public), "--json")
    assert found.exit_code == 0
    told = json.loads(found.stdout)
    assert (told["entries"], told["begins"], told["unchained"], told["root"]) == (6, 6, 0, log.root().hex())
    assert (told["first_break"], told["last_broken"], told["problems"]) == (None, None, [])


def test_a_break_is_told_with_its_offset_expected_and_got(headrace, registry, log):
    offset, _ = registry.log[1]
    registry.log = (registry.log[0], (offset, b""), *registry.log[2:])
    result = headrace("verify")
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert "the chain is broken at offset 6: expected 2 entries before it with root" in said
    assert "the last entry that tells of it is at offset 12" in said
    assert f"the head of the registry: expected root {log.root().hex()} after 5 entries, got" in said


def test_a_log_that_was_written_anew_is_found_by_a_head_from_before(headrace, registry, log, key, tmp_path):
    saved = tmp_path / "head.json"
    assert headrace("verify", "--save", str(saved)).exit_code == 0
    # Whoever has the topic makes every root right again.
    tree, lines = MerkleTree(), []
    for offset, _ in registry.log:
        entry = LogEntry(entries_before=tree.leaves, root_before=tree.root())
        lines.append((offset, entry.SerializeToString()))
        tree.append(lines[-1][1])
    registry.log, registry.head = tuple(lines), head_of(tree)
    assert headrace("verify").exit_code == 0
    result = headrace("verify", "--head", str(saved), "--key", str(tmp_path / "public.pem"))
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert f"the saved head: expected root {log.root().hex()} after 5 entries, got {tree.root().hex()}" in said
    assert "the head of the registry is not signed with the key of" in said
    registry.log, registry.head = (), head_of(MerkleTree())
    assert "got a log of 0 entries" in " ".join(headrace("verify", "--head", str(saved)).stderr.split())


@pytest.mark.parametrize(
    ("text", "option", "words"),
    [
        ("{}", "--head", "expected a head that `headrace verify --save` wrote"),
        ('{"format": "headrace.log.head.v1", "size": "5", "root": "", "time": ""}', "--head", "expected a head"),
        ("no key", "--key", "expected an Ed25519 public key (PEM)"),
    ],
)
def test_a_file_that_is_none_is_named(headrace, log, tmp_path, text, option, words):
    file = tmp_path / "file"
    file.write_text(text)
    result = headrace("verify", option, str(file))
    assert result.exit_code == 1
    assert words in " ".join(result.stderr.split())


def test_a_head_is_saved_of_a_registry_alone(headrace, tmp_path):
    result = headrace("verify", "--kafka", "--save", str(tmp_path / "head.json"))
    assert result.exit_code == 2
    assert "--save" in result.stderr


def test_a_proof_is_asked_for_with_rows_and_written(headrace, registry, tmp_path):
    file = tmp_path / "proof.json"
    asked = ("prove", "019b7615", "--rows", "scans:0:17", "--rows", "a:b:1:2", "-o", str(file))
    assert headrace(*asked).exit_code == 0
    request = registry.requests[-1]
    assert request.prediction == "019b7615"
    assert [(row.topic, row.partition, row.offset) for row in request.rows] == [("scans", 0, 17), ("a:b", 1, 2)]
    assert file.read_bytes() == b"{}"
    assert headrace("prove", "019b7615", "--rows", "scans", "-o", str(file)).exit_code == 2
