"""`init`: what the command says beside its draft."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from headrace_client.drafting.media import MediaRecord
from headrace_data.spec import load_pipeline
from PIL import Image


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


def png(bright: int) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (9, 8), (bright, 0, 0)).save(written, "PNG")
    return written.getvalue()


def test_pictures_of_a_topic_are_drafted_with_the_header_of_their_class(headrace, monkeypatch) -> None:
    beside = [("from", b"a"), ("headrace-ref-digest", b"")]
    records = [MediaRecord(png(n), b"k%d" % n, [*beside, ("kind", b"xy"[n % 2 :][:1])]) for n in range(20)]
    monkeypatch.setattr("headrace_client.sampling.newest_records", lambda topic, sample: [records[0].value])
    monkeypatch.setattr("headrace_client.sampling.newest", lambda topic, sample, command: records)
    done = headrace("init", "--topic", "t", "--label", "kind")
    assert done.exit_code == 0, done.output
    stream = load_pipeline(done.stdout).stream
    assert [(each.name, each.role, each.shape) for each in stream.fields] == [
        ("id", "id", ()),
        ("picture", "feature", (3, 8, 9)),
        ("label", "label", ()),
    ]
    assert (stream.format_kind, "$headers['kind'] AS label" in done.stdout) == ("image", True)
    assert "guessed" in headrace("init", "--topic", "t").stderr
    refused = headrace("init", "--topic", "t", "--label", "none")
    assert "expected a header 'none', got headers from, headrace-ref-digest, kind" in refused.stderr
    records[0] = records[0]._replace(key=None)
    assert "expected a key in each record" in headrace("init", "--topic", "t", "--label", "kind").stderr


def test_the_command_says_that_floats_make_no_classes(headrace, monkeypatch) -> None:
    records = encoded([{"id": f"r{n}", "x": n, "kind": float(n % 2)} for n in range(20)])
    monkeypatch.setattr("headrace_client.sampling.newest_records", lambda topic, sample: records)
    noted = headrace("init", "--topic", "t", "--label", "kind").stderr
    assert "label 'kind' holds few whole numbers, sent as floats: a regression; for classes send integers" in noted
