"""The applied pipelines, and the parts that a service runs for each of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.events.v1.pipeline_pb2 import PipelineApplied

from headrace_runtime.kafka.views import CompactedView
from headrace_runtime.messages import Record
from headrace_runtime.service import Background, Component
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import PIPELINE_APPLIED

logger = logging.getLogger(__name__)

Build = Callable[[PipelineApplied], Sequence[Component]]
"""Returns the parts that one pipeline needs, in the order in which they start."""


@dataclass(frozen=True, slots=True)
class _Running:
    digest: str
    components: tuple[Component, ...]


class PipelineParts(CompactedView[PipelineApplied]):
    """Follows `headrace.pipeline.applied.v1` and keeps each pipeline's own parts running.

    Every pipeline has its own consumers and transactions: its lag is its own, and a slow one holds up no other. A new
    spec replaces the parts of the old one. A pipeline whose parts cannot be built is logged and left out; the others
    run.
    """

    def __init__(self, settings: KafkaSettings, name: str, build: Build) -> None:
        super().__init__(settings, PIPELINE_APPLIED, PipelineApplied, self._apply, name)
        self._build = build
        self._running: dict[str, _Running] = {}

    def stop(self) -> None:
        """Stop following, then every pipeline's parts."""
        super().stop()
        for pipeline in list(self._running):
            self._remove(pipeline)

    def _apply(self, pipeline: str, applied: PipelineApplied | None, record: Record) -> None:
        if applied is None:
            self._remove(pipeline)
            return
        if pipeline in self._running and self._running[pipeline].digest == applied.spec.digest:
            return
        self._remove(pipeline)
        try:
            components = tuple(self._build(applied))
        except Exception:
            logger.exception("pipeline %s cannot run here (%s)", pipeline, record.coordinates)
            return
        for component in components:
            if isinstance(component, Background):
                component.on_failure = self.on_failure
            component.start()
        self._running[pipeline] = _Running(applied.spec.digest, components)
        logger.info("pipeline %s runs with spec %s", pipeline, applied.spec.digest)

    def _remove(self, pipeline: str) -> None:
        running = self._running.pop(pipeline, None)
        for component in reversed(running.components if running else ()):
            component.stop()
