"""The parts of pipelines, kept running for who follows what is applied."""

from __future__ import annotations

from threading import Barrier

from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace_runtime.process.service import Background
from headrace_runtime.records import Record
from headrace_runtime.settings import ServiceSettings
from headrace_runtime.stream.pipelines import Parts

COUNT = 3


class Last(Background):
    """Ends once all have been asked to."""

    def __init__(self, name: str, together: Barrier) -> None:
        super().__init__(name)
        self.stop_timeout_s = 20.0
        self._together = together

    def run(self) -> None:
        self.stopping.wait()
        self._together.wait(10.0)


def test_no_pipeline_waits_for_another_to_stop() -> None:
    together = Barrier(COUNT)
    parts = Parts(ServiceSettings(), "test", lambda applied: [Last(applied.pipeline, together)])
    for name in map(str, range(COUNT)):
        parts.take(name, PipelineApplied(pipeline=name), Record("applied", 0, 0, None, None))
    parts.stop()
    assert not together.broken
