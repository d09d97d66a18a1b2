"""Spans as lines of a file that outlives its process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from headrace_runtime.telemetry import span_files
from headrace_runtime.telemetry.span_files import JsonLinesExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


def write_span(path: Path, name: str) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(JsonLinesExporter(path)))
    provider.get_tracer("test").start_span(name).end()
    provider.shutdown()


@pytest.mark.parametrize(("left", "lost"), [("", 0), ('{"name": "whole"}\n', 0), ('{"name": "ha', 1)])
def test_the_first_span_after_a_kill_has_a_line_of_its_own(tmp_path: Path, left: str, lost: int) -> None:
    path = tmp_path / "telemetry" / "trainer-0.jsonl"
    path.parent.mkdir()
    path.write_text(left)
    write_span(path, "first")
    lines = path.read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines[lost:]][-1] == "first"
    assert len(lines) == left.count("\n") + lost + 1


def test_a_full_file_is_kept_once_and_a_new_one_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_files, "MAX_FILE_BYTES", 1)
    path = tmp_path / "trainer-0.jsonl"
    for name in ("first", "second"):
        write_span(path, name)
    assert json.loads((tmp_path / "trainer-0.1.jsonl").read_text())["name"] == "second"
    assert path.read_text() == ""
