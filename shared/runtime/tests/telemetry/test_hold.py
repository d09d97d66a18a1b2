"""Holding a process at an armed point, so that it can be killed there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from headrace_runtime.telemetry.hold import CHILD_VARIABLE, Held, HoldSpans, child_environment, hold_child, point
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

WAIT_S = 20


@pytest.fixture
def tracer(tmp_path: Path) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(HoldSpans(tmp_path))
    return provider.get_tracer("test")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_point_is_a_file_name() -> None:
    assert point("process headrace.model.trained.v1") == "process-headrace.model.trained.v1"
    assert point("headrace.Registry/Apply") == "headrace.Registry-Apply"


def test_nobody_is_held_at_a_point_that_is_not_armed(tmp_path: Path, tracer: Tracer) -> None:
    (tmp_path / "another").touch()
    with tracer.start_as_current_span("transaction"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["another"]


def test_an_armed_point_holds_one_span_once_and_names_it(tmp_path: Path, tracer: Tracer) -> None:
    (tmp_path / "process-digits").touch()
    seen: list[tuple[str, str]] = []

    def work() -> None:
        with tracer.start_as_current_span("batch") as parent, tracer.start_as_current_span("process digits") as span:
            contexts = parent.get_span_context(), span.get_span_context()
            seen.append((f"{contexts[0].span_id:016x}", f"{contexts[1].span_id:016x}"))

    thread = threading.Thread(target=work)
    thread.start()
    shown = tmp_path / "process-digits.held"
    until(shown.exists)
    assert not seen
    held = Held.read(shown)
    with tracer.start_as_current_span("process digits"):
        pass  # the point is taken
    shown.unlink()
    thread.join(WAIT_S)
    assert seen == [(held.parent_id, held.span_id)]
    assert len(held.trace_id) == 32
    assert list(tmp_path.iterdir()) == []


def test_a_child_is_held_within_the_span_of_its_worker(tmp_path: Path) -> None:
    traceparent = f"00-{7:032x}-{9:016x}-01"
    environment = child_environment(tmp_path, "trainer") | {"TRACEPARENT": traceparent}
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "step-3").touch()
    hold_child(2, environment)
    thread = threading.Thread(target=hold_child, args=(3, environment))
    thread.start()
    shown = tmp_path / "trainer" / "step-3.held"
    until(shown.exists)
    assert (Held.read(shown).trace_id, Held.read(shown).span_id) == (f"{7:032x}", f"{9:016x}")
    shown.unlink()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_a_child_without_a_folder_goes_on() -> None:
    assert child_environment(None, "trainer") == {}
    hold_child(3, {CHILD_VARIABLE: ""})
