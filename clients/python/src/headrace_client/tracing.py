"""The story of one prediction, run, dataset, version or record, told from the spans of the embedded platform.

Headrace spreads a story over several OpenTelemetry traces: control events are parents, batches are links. `story`
follows both, from cause to effect, and puts every span under the one that it came from: its parent, else the first span
that it links to, else (for a prediction) the loading of the version that answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace_client.errors import InputInvalid

NAMES = ("headrace.prediction.id", "headrace.run.id", "headrace.dataset.id", "headrace.version.id")
"""Attributes that an id may stand in."""
VERSION = "headrace.version.id"
PREDICTION = "headrace.prediction.id"
SOURCES = "headrace.sources"
"""Attribute of a span that took records in: each item is topic:partition:first-last."""

_RECORD = re.compile(r"(?P<topic>.+):(?P<partition>\d+):(?P<offset>\d+)")
_SOURCE = re.compile(r"(?P<topic>.+):(?P<partition>\d+):(?P<first>\d+)-(?P<last>\d+)")
LEAST_PREFIX = 8
"""Characters that the beginning of an id must have."""


@dataclass(frozen=True)
class Span:
    """One finished span as the platform wrote it."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    start_ns: int
    end_ns: int
    status: str
    attributes: dict[str, Any] = field(hash=False)
    links: tuple[str, ...]
    """Ids of the spans that it links to."""

    @property
    def duration_ms(self) -> float:
        """Milliseconds from start to end."""
        return (self.end_ns - self.start_ns) / 1e6


@dataclass
class Node:
    """A span and what came of it, in the order of time."""

    span: Span
    children: list[Node] = field(default_factory=list)


def read_spans(folder: Path) -> list[Span]:
    """Read every span of a telemetry folder. Raises InputInvalid when there is no such folder."""
    if not folder.is_dir():
        raise InputInvalid(f"no telemetry in {folder}: expected the embedded platform's spans there")
    lines = (line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines())
    return list(_parsed(lines))


def _parsed(lines: Iterable[str]) -> Iterator[Span]:
    for line in lines:
        try:
            item = json.loads(line)
        except ValueError:
            continue  # the last line of a service that is writing just now
        yield Span(
            item["trace_id"],
            item["span_id"],
            item["parent_id"],
            item["name"],
            item["service"],
            item["start_ns"],
            item["end_ns"],
            item["status"],
            item["attributes"],
            tuple(link["span_id"] for link in item["links"]),
        )


def find(spans: Iterable[Span], wanted: str) -> list[Span]:
    """Return the spans that name an id (or its beginning) or, for topic:partition:offset, that took the record in."""
    if place := _RECORD.fullmatch(wanted):
        return [span for span in spans if _took_in(span, place["topic"], int(place["partition"]), int(place["offset"]))]
    return [span for span in spans if any(_names(span.attributes.get(name), wanted) for name in NAMES)]


def _names(value: object, wanted: str) -> bool:
    bare = wanted.removeprefix("sha256:")
    return len(bare) >= LEAST_PREFIX and isinstance(value, str) and value.removeprefix("sha256:").startswith(bare)


def _took_in(span: Span, topic: str, partition: int, offset: int) -> bool:
    ranges = (_SOURCE.fullmatch(item) for item in span.attributes.get(SOURCES, ()))
    return any(
        found["topic"] == topic
        and int(found["partition"]) == partition
        and int(found["first"]) <= offset <= int(found["last"])
        for found in ranges
        if found
    )


def story(spans: Sequence[Span], wanted: Sequence[Span]) -> list[Node]:
    """Return the trees that lead to the wanted spans, with everything that came of those spans.

    A tree begins where nothing is known of the cause. Spans beside the way, such as other batches of the same dataset,
    are left out.
    """
    known = {span.span_id for span in spans}
    loads = _loads(spans)
    causes = {span.span_id: [cause for cause in _causes(span, loads) if cause in known] for span in spans}
    effects: dict[str, list[Span]] = {}
    for span in spans:
        for cause in causes[span.span_id]:
            effects.setdefault(cause, []).append(span)
    kept: set[str] = set()
    for span in wanted:
        kept |= _before(span, causes) | _after(span, effects)
    return _trees([span for span in spans if span.span_id in kept], causes)


def _loads(spans: Iterable[Span]) -> dict[object, list[Span]]:
    """Return the spans that loaded each version, in the order of time."""
    loads: dict[object, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start_ns):
        if span.name.startswith("load "):
            loads.setdefault(span.attributes.get(VERSION), []).append(span)
    return loads


def _causes(span: Span, loads: dict[object, list[Span]]) -> list[str]:
    """Return the ids of what a span came from, the closest first."""
    causes = [*([span.parent_id] if span.parent_id else ()), *span.links]
    if PREDICTION in span.attributes:
        earlier = [item for item in loads.get(span.attributes.get(VERSION), ()) if item.start_ns <= span.start_ns]
        causes += [item.span_id for item in earlier[-1:]]
    return causes


def _before(span: Span, causes: dict[str, list[str]]) -> set[str]:
    """Return a span and the one line that leads to it: of several causes the closest."""
    found, span_ids = {span.span_id}, [span.span_id]
    while nearest := [cause for cause in causes[span_ids[-1]][:1] if cause not in found]:
        found.update(nearest)
        span_ids += nearest
    return found


def _after(span: Span, effects: dict[str, list[Span]]) -> set[str]:
    """Return a span and all that came of it; a version's predictions are not part of its story."""
    found, waiting = {span.span_id}, [span]
    while waiting:
        for effect in effects.get(waiting.pop().span_id, ()):
            if effect.span_id not in found and PREDICTION not in effect.attributes:
                found.add(effect.span_id)
                waiting.append(effect)
    return found


def _trees(spans: Sequence[Span], causes: dict[str, list[str]]) -> list[Node]:
    nodes = {span.span_id: Node(span) for span in sorted(spans, key=lambda span: span.start_ns)}
    roots = []
    for span_id, node in nodes.items():
        nearest = next((cause for cause in causes[span_id] if cause in nodes), None)
        if nearest is None:
            roots.append(node)
        else:
            nodes[nearest].children.append(node)
    return roots


def edges(roots: Iterable[Node]) -> list[tuple[str, str]]:
    """Return the pairs of services that a story passes between, in order and each once."""
    found: dict[tuple[str, str], None] = {}
    waiting = list(roots)
    while waiting:
        node = waiting.pop(0)
        for child in node.children:
            if child.span.service != node.span.service:
                found.setdefault((node.span.service, child.span.service))
        waiting += node.children
    return list(found)
