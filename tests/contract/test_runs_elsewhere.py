"""A worker whose runs are done elsewhere follows them as it follows children of its own, on a real broker."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from headrace.events.v1 import model_pb2
from headrace_runtime.kafka import EventProducer
from headrace_runtime.runs.child_process import Child, ChildProcess
from headrace_runtime.runs.worker import RunWorker
from headrace_runtime.topics import MODEL_TRAINED

from .test_run_worker import JOB, begin_at_the_end, command, facts
from .test_run_worker import settings as settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace_runtime.settings import WorkerSettings

pytestmark = pytest.mark.contract


class Elsewhere(ChildProcess):
    """A child that counts how often it is stopped."""

    stops = 0

    def stop(self) -> None:
        self.stops += 1
        super().stop()


def test_a_run_elsewhere_is_followed_and_stopped_as_a_child_is(
    settings: WorkerSettings, tmp_path: Path, until: Callable[..., None]
) -> None:
    group, begun = f"elsewhere-{uuid.uuid4()}", []

    def elsewhere(assignment: Path) -> Child | None:
        if json.loads(assignment.read_bytes())["behaviour"] == "fine":
            return None
        begun.append(Elsewhere(JOB.module, assignment, "test", {}))
        return begun[-1]

    @contextmanager
    def worker() -> Iterator[None]:
        events = EventProducer(settings, "test")
        running = RunWorker(group, replace(JOB, elsewhere=elsewhere), settings, events)
        events.start()
        running.start()
        try:
            yield
        finally:
            running.stop()
            events.stop()

    begin_at_the_end(settings.kafka_bootstrap_servers, group)
    flag = tmp_path / "hangs"
    there, here = command(settings, "hang once", flag), command(settings, "fine")
    with worker():
        until(flag.exists)
    with worker():
        for run_id in (there, here):
            until(lambda run_id=run_id: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
    assert [(child.ended, child.stops) for child in begun] == [(True, 1), (True, 1)]
    (fact,) = facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, there)
    assert fact.attempt == 2
