"""`init`: what the command says beside its draft."""

from __future__ import annotations

import json
from typing import Any

import pytest


def encoded(records: list[Any]) -> list[bytes | None]:
    return [json.dumps(record).encode() for record in records]


@pytest.mark.parametrize(
    ("options", "kinds", "noted"),
    [
        ((), 2, "the label is a guess: --label FIELD names another"),
        (("--label", "kind"), 2, ""),
        (("--label", "kind"), 1, "label 'kind' has one value in the sample: a model needs at least two"),
    ],
)
def test_the_command_says_what_to_look_at(headrace, monkeypatch, options, kinds, noted) -> None:
    records = encoded([{"id": f"r{n}", "x": n, "kind": "ab"[n % kinds]} for n in range(20)])
    monkeypatch.setattr("headrace_client.sampling.newest_records", lambda topic, sample: records)
    done = headrace("init", "--topic", "t", *options)
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines()[1:] == ([noted] if noted else [])


def test_the_command_says_that_floats_make_no_classes(headrace, monkeypatch) -> None:
    records = encoded([{"id": f"r{n}", "x": n, "kind": float(n % 2)} for n in range(20)])
    monkeypatch.setattr("headrace_client.sampling.newest_records", lambda topic, sample: records)
    noted = headrace("init", "--topic", "t", "--label", "kind").stderr
    assert "label 'kind' holds few whole numbers, sent as floats: a regression; for classes send integers" in noted
