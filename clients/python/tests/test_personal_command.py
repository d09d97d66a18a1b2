"""`personal`: what is stored in the place of a value, and what a token stands for, by whoever has the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from headrace_data.private.hash import Hash
from headrace_data.private.keys import Secret

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: calls}
stream:
  topic: calls
  personal: {key: people, fields: {call: tokenize, customer: hash, email: drop}}
  schema:
    - {name: call, type: string, role: id}
    - {name: customer, type: string, role: group}
    - {name: minutes, type: float32, role: feature}
    - {name: state, type: int64, role: label}
prepare: {}
train: {network: {kind: mlp, hidden: [4]}}
"""
KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def place(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "calls.yaml").write_text(DOCUMENT)
    (tmp_path / "people").write_bytes(KEY + b"\n")
    return str(tmp_path / "calls.yaml"), str(tmp_path)


def test_a_value_becomes_what_is_stored_and_a_token_its_value(headrace, place: tuple[str, str]) -> None:
    file, keys = place
    done = headrace("personal", "stored", file, "customer", "Ada", "--keys", keys)
    assert done.stdout.strip() == Hash(Secret("people", lambda _: KEY)).of("Ada")
    done = headrace("personal", "stored", file, "call", "c 1", "--keys", keys, "--json")
    (token,) = json.loads(done.stdout)
    assert headrace("personal", "reveal", file, "call", token, "--keys", keys).stdout.strip() == "c 1"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("stored", "email", "x"), "expected one of the fields that are treated (call, customer), got 'email'"),
        (("reveal", "customer", "x"), "customer: expected a field that is tokenised"),
        (("reveal", "call", "x"), "expected a token that was made with this key"),
    ],
)
def test_what_cannot_be_is_told(headrace, place: tuple[str, str], asked: tuple[str, str, str], told: str) -> None:
    file, keys = place
    command, field, value = asked
    done = headrace("personal", command, file, field, value, "--keys", keys)
    assert (done.exit_code, told in done.stderr) == (1, True)


@pytest.mark.parametrize(("key", "told"), [(None, "cannot be read"), (b"short", "expected at least 32 bytes, got 5")])
def test_without_the_key_nobody_makes_it(headrace, place: tuple[str, str], key: bytes | None, told: str) -> None:
    file, keys = place
    path = Path(keys) / "people"
    path.unlink() if key is None else path.write_bytes(key)
    done = headrace("personal", "stored", file, "customer", "Ada", "--keys", keys)
    assert (done.exit_code, told in done.stderr) == (1, True)
