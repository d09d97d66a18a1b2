"""A story is put together from spans of several traces, in the order of cause and effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from headrace_client.cli.trace import trace
from headrace_client.errors import InputInvalid
from headrace_client.tracing import Node, edges, find, read_spans, story


def span(
    span_id: str,
    service: str,
    name: str,
    start: int,
    *,
    parent: str | None = None,
    links: tuple[str, ...] = (),
    **attributes: Any,
) -> dict[str, Any]:
    return {
        "trace_id": f"trace-{span_id}",
        "span_id": span_id,
        "parent_id": parent,
        "name": name,
        "service": service,
        "start_ns": start * 1_000_000,
        "end_ns": (start + 5) * 1_000_000,
        "status": "unset",
        "attributes": {f"headrace.{key.replace('_', '.')}": value for key, value in attributes.items()},
        "links": [{"trace_id": "any", "span_id": link} for link in links],
    }


@pytest.fixture
def telemetry(tmp_path: Path) -> Path:
    spans = [
        span("i1", "ingestion", "process digits", 1, sources=["digits:0:0-99"]),
        span("i2", "ingestion", "process digits", 2, sources=["digits:1:0-50"]),
        span("p1", "preprocessing", "process raw", 3, links=("i1",)),
        span("p2", "preprocessing", "process raw", 4, links=("i2",)),
        span("f", "preprocessing", "freeze", 5, links=("p1", "p2"), dataset_id="sha256:" + "d" * 64),
        span("r1", "model-registry", "process dataset.frozen", 6, parent="f"),
        span("t", "trainer", "process training.requested", 7, parent="r1", run_id="train-12345678"),
        span("r2", "model-registry", "process model.trained", 8, parent="t"),
        span("l", "inference", "load digits", 9, parent="r2", version_id="sha256:" + "e" * 64),
        span("q", "inference", "ModelInfer", 20, version_id="sha256:" + "e" * 64, prediction_id="0190-aaaa-bbbb"),
        span("q2", "inference", "ModelInfer", 21, version_id="sha256:" + "e" * 64, prediction_id="0190-cccc-dddd"),
        span("x", "ingestion", "process other", 30, sources=["other:0:0-9"]),
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(item) + "\n" for item in spans) + '{"cut off')
    return tmp_path


def flat(roots: list[Node]) -> list[str]:
    return [item for node in roots for item in [node.span.span_id, *flat(node.children)]]


@pytest.mark.parametrize("wanted", ["0190-aaaa-bbbb", "0190-aaaa"])
def test_a_prediction_leads_back_to_the_records(telemetry: Path, wanted: str) -> None:
    spans = read_spans(telemetry)
    roots = story(spans, find(spans, wanted))
    assert flat(roots) == ["i1", "p1", "f", "r1", "t", "r2", "l", "q"]
    assert edges(roots) == [
        ("ingestion", "preprocessing"),
        ("preprocessing", "model-registry"),
        ("model-registry", "trainer"),
        ("trainer", "model-registry"),
        ("model-registry", "inference"),
    ]


@pytest.mark.parametrize("wanted", ["d" * 64, "sha256:" + "d" * 12])
def test_a_dataset_has_a_before_and_an_after_without_predictions(telemetry: Path, wanted: str) -> None:
    spans = read_spans(telemetry)
    assert flat(story(spans, find(spans, wanted))) == ["i1", "p1", "f", "r1", "t", "r2", "l"]


def test_a_record_is_found_by_its_place(telemetry: Path) -> None:
    spans = read_spans(telemetry)
    assert [item.span_id for item in find(spans, "digits:1:50")] == ["i2"]
    assert flat(story(spans, find(spans, "digits:1:50"))) == ["i2", "p2", "f", "r1", "t", "r2", "l"]
    assert find(spans, "digits:1:51") == []
    assert [item.span_id for item in find(spans, "other:0:9")] == ["x"]


def test_the_tree_tells_by_which_schemas_records_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = span("f", "preprocessing", "freeze", 5, dataset_id="sha256:" + "d" * 64)
    frozen["attributes"]["headrace.writer_schemas"] = ["sha256:" + "5" * 64, "sha256:" + "6" * 64]
    (tmp_path / "telemetry").mkdir()
    (tmp_path / "telemetry" / "a.jsonl").write_text(json.dumps(frozen) + "\n")
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    trace("d" * 64)
    assert f"writer_schemas={'5' * 12}…,{'6' * 12}…" in capsys.readouterr().out


def test_too_short_a_beginning_finds_nothing(telemetry: Path) -> None:
    assert find(read_spans(telemetry), "0190") == []


def test_a_platform_without_telemetry_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="expected the embedded platform's spans there"):
        read_spans(tmp_path / "nowhere")
