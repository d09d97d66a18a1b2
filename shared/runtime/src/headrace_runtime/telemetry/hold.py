"""Fault injection for tests: stops a process at a named point, so that a test can kill it exactly there.

It works only where HEADRACE_HOLD_DIR names a folder. A test arms a point by making the file
``<folder>/<service>/<point>``, `point` being the name of a span with everything but letters, digits, dots, hyphens and
underscores turned into a hyphen. The next process that starts such a span takes the file, which becomes
``<point>.held`` and tells who is held (see `Held`), and waits within the span until that file is removed. So each armed
point holds one process once.

The child of a run has no spans of its own: it is held after the report of a step, at the point ``step-<number>``,
within the ``run`` span of the worker that started it.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

CHILD_VARIABLE = "HEADRACE_CHILD_HOLD_DIR"
"""Variable in the environment of a run's child: the folder of its worker's armed points."""
_HANDED_DOWN = "HEADRACE_GROUP_HOLD_DIR"
POLL_S = 0.02

_UNSAFE = re.compile(r"[^\w.-]")


@dataclass(frozen=True, slots=True)
class Held:
    """Who is held: the content of a ``.held`` file."""

    pid: int
    trace_id: str
    """Of the open span, 32 hexadecimal digits."""
    span_id: str
    """Of the open span, 16 hexadecimal digits."""
    parent_id: str
    """Of the open span's parent, empty when there is none."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a ``.held`` file."""
        return cls(**json.loads(path.read_bytes()))


def point(name: str) -> str:
    """Return the file name of a span's name."""
    return _UNSAFE.sub("-", name)


class HoldSpans(SpanProcessor):
    """Holds whoever starts a span of an armed name. Span processors are called in the thread that starts the span."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Wait here while the span's name is armed."""
        hold(self._folder, span.name, span.get_span_context(), span.parent)


def hold(folder: Path, name: str, span: trace.SpanContext | None, parent: trace.SpanContext | None = None) -> None:
    """Return at once, or once a test lets go when the name is armed in the folder."""
    armed = folder / point(name)
    taken = armed.with_name(f"{armed.name}.{os.getpid()}")
    try:
        armed.rename(taken)
    except OSError:
        return  # not armed, or another was quicker
    held = Held(
        os.getpid(),
        f"{span.trace_id:032x}" if span else "",
        f"{span.span_id:016x}" if span else "",
        f"{parent.span_id:016x}" if parent else "",
    )
    taken.write_text(json.dumps(asdict(held)))
    shown = armed.with_name(f"{armed.name}.held")
    taken.rename(shown)
    while shown.exists():
        time.sleep(POLL_S)


def child_environment(hold_dir: Path | None, service: str) -> dict[str, str]:
    """Return what a worker adds to its child's environment."""
    return {} if hold_dir is None else {CHILD_VARIABLE: str(hold_dir / service)}


def hand_down(environment: MutableMapping[str, str] = os.environ) -> None:
    """Leave being held to a process that this child starts, which takes it up: the child only passes reports on."""
    if folder := environment.pop(CHILD_VARIABLE, ""):
        environment[_HANDED_DOWN] = folder


def take_up(environment: MutableMapping[str, str] = os.environ) -> None:
    """Be the process that is held in the place of the child that started it."""
    if folder := environment.pop(_HANDED_DOWN, ""):
        environment[CHILD_VARIABLE] = folder


def hold_child(step: int, environment: Mapping[str, str] = os.environ) -> None:
    """Hold the child of a run after a step, when that is armed."""
    folder = environment.get(CHILD_VARIABLE)
    if not folder:
        return
    carrier = {name.lower(): value for name, value in environment.items() if name in ("TRACEPARENT", "TRACESTATE")}
    parent = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier))
    hold(Path(folder), f"step {step}", parent.get_span_context())
