"""`trace`: the story of one thing as a tree of spans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree

from headrace_client.addresses import home_folder
from headrace_client.cli.output import JsonOption, print_json, stdout
from headrace_client.errors import InputInvalid
from headrace_client.tracing import LEAST_PREFIX, Node, Span, find, read_spans, story

DECISION = "headrace.decision"
"""Attribute of a decision: it is told whole."""
SHOWN = (
    "headrace.pipeline",
    "headrace.rows",
    "headrace.writer_schemas",
    "headrace.run.id",
    "headrace.dataset.id",
    "headrace.version.id",
    DECISION,
)
"""Attributes that the tree shows beside a span's name."""


def trace(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A prediction, run, dataset or version id, or a record as TOPIC:PARTITION:OFFSET.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show what led to something and what came of it, across services, with durations.

    Reads the spans that the embedded platform keeps; a platform with an OTLP endpoint has them in its own backend.
    """
    folder: Path = home_folder() / "telemetry"
    spans = read_spans(folder)
    found = find(spans, wanted)
    if not found:
        raise InputInvalid(
            f"no span in {folder} names {wanted!r}: expected a prediction, run, dataset or version id (at least "
            f"{LEAST_PREFIX} characters) or TOPIC:PARTITION:OFFSET of a record that came in"
        )
    roots = story(spans, found)
    if as_json:
        print_json([_view(root) for root in roots])
        return
    marked = {span.span_id for span in found}
    for root in roots:
        stdout().print(_tree(root, marked))


def _tree(root: Node, marked: set[str]) -> Tree:
    tree = Tree(_label(root.span, marked))
    waiting = [(root, tree)]
    while waiting:
        node, branch = waiting.pop()
        waiting += [(child, branch.add(_label(child.span, marked))) for child in node.children]
    return tree


def _label(span: Span, marked: set[str]) -> str:
    name = f"[bold]{escape(span.name)}[/]" if span.span_id in marked else escape(span.name)
    shown = {key.removeprefix("headrace."): span.attributes[key] for key in SHOWN if key in span.attributes}
    details = " ".join(f"{key}={value if key == 'decision' else _short(value)}" for key, value in shown.items())
    failed = " [red]error[/]" if span.status == "error" else ""
    return f"[cyan]{span.service}[/] {name} [green]{_duration(span.duration_ms)}[/]{failed} [dim]{escape(details)}[/]"


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_short, value))
    text = str(value).removeprefix("sha256:")
    return text if len(text) <= 20 else f"{text[:12]}…"


def _duration(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.1f} s" if milliseconds >= 1000 else f"{milliseconds:.1f} ms"


def _view(node: Node) -> dict[str, Any]:
    span = node.span
    return {
        "service": span.service,
        "name": span.name,
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "start_ns": span.start_ns,
        "duration_ms": span.duration_ms,
        "status": span.status,
        "attributes": span.attributes,
        "children": [_view(child) for child in node.children],
    }
