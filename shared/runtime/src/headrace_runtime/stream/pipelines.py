"""The applied pipelines, and the parts that a service runs for each of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from headrace.events.v1.pipeline_pb2 import PipelineApplied
from prometheus_client import Counter

from headrace_runtime.kafka.troubles import Troubles
from headrace_runtime.kafka.views import CompactedView
from headrace_runtime.poison.trials import reason_of
from headrace_runtime.process.service import Background, Component
from headrace_runtime.records import Record
from headrace_runtime.settings import ServiceSettings
from headrace_runtime.stream.recovery import Recovery
from headrace_runtime.topics import PIPELINE_APPLIED

logger = logging.getLogger(__name__)

Build = Callable[[PipelineApplied], Sequence[Component]]
"""Returns the parts of one pipeline, in the order in which they start."""


FAILURES = Counter("headrace_pipeline_failures", "Parts of a pipeline that failed and were started again.", ["part"])

TOLD_FOR_S = 300.0
"""Seconds for which a failure counts as a trouble unless it recurs. It exceeds any back-off and start together."""
TELL_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class _Running:
    digest: str
    partitions: int
    incarnation: int
    components: tuple[Component, ...]


class Parts:
    """The parts of each pipeline, kept running, for who follows `headrace.pipeline.applied.v1`.

    Every pipeline has its own consumers and transactions. Its lag is its own, and a slow pipeline delays no other. A
    new spec, more partitions or a new incarnation replaces the parts of a pipeline. A deleted pipeline has no parts. A
    failed part is started again alone, with back-off, and the trouble is reported. Only an exception outside
    `Exception`, such as a call to exit, goes to `end_process`.

    As a component it has nothing to start: parts start as pipelines are heard of, until it is stopped.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        service: str,
        build: Build,
        end_process: Callable[[BaseException], float | None] = lambda _: None,
    ) -> None:
        self._service = service
        self._build = build
        self._troubles = Troubles(settings, service)
        self._end_process = end_process
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Stop the parts of all pipelines at the same time, and start none any more.

        One after the other, each would wait as long for a cluster that does not answer.
        """
        with self._lock:
            self._stopped = True
            with ThreadPoolExecutor(len(self._running) or 1, thread_name_prefix="stop") as stoppers:
                list(stoppers.map(self._remove, list(self._running)))

    def take(self, pipeline: str, applied: PipelineApplied | None, record: Record) -> None:
        """Have the parts of a pipeline run as a message of the topic says; None stands for one that is deleted."""
        with self._lock:
            if applied is None:
                self._remove(pipeline)
            elif not self._stopped:
                self._apply(pipeline, applied, record)

    def _apply(self, pipeline: str, applied: PipelineApplied, record: Record) -> None:
        running = self._running.get(pipeline)
        wanted = (applied.spec.digest, applied.partitions, applied.incarnation)
        if running and (running.digest, running.partitions, running.incarnation) == wanted:
            return
        self._remove(pipeline)
        try:
            components = tuple(self._build(applied))
        except Exception as error:
            logger.exception("pipeline %s cannot run here (%s)", pipeline, record.coordinates)
            self._troubles.tell(pipeline, f"{self._service}.{pipeline}", f"cannot run here: {reason_of(error)}")
            return
        for component in components:
            if isinstance(component, Background):
                kept = _Kept(pipeline, component.name, self._troubles, self._end_process)
                component.on_failure, component.on_round = kept.failed, kept.works
            component.start()
        self._running[pipeline] = _Running(*wanted, components)
        if components:
            told = "pipeline %s runs with spec %s and %s partitions"
            logger.info(told, pipeline, applied.spec.digest, applied.partitions)

    def _remove(self, pipeline: str) -> None:
        running = self._running.pop(pipeline, None)
        for component in reversed(running.components if running else ()):
            try:
                component.stop()
            except Exception:
                logger.exception("%r of pipeline %s did not stop cleanly", component, pipeline)


class PipelineParts(CompactedView[PipelineApplied]):
    """Follows `headrace.pipeline.applied.v1` and keeps each pipeline's own `Parts` running."""

    def __init__(
        self, settings: ServiceSettings, name: str, build: Build, forget: Callable[[str], None] = lambda _: None
    ) -> None:
        """`forget` is called with the name of a deleted pipeline, before its parts stop."""
        super().__init__(settings, PIPELINE_APPLIED, PipelineApplied, self._take, name)
        self._parts = Parts(settings, name, build, lambda error: self.on_failure(error))
        self._forget = forget

    def stop(self) -> None:
        """Stop following the topic, then stop the parts of every pipeline."""
        super().stop()
        self._parts.stop()

    def _take(self, pipeline: str, applied: PipelineApplied | None, record: Record) -> None:
        if applied is None:
            self._forget(pipeline)
        self._parts.take(pipeline, applied, record)


class _Kept:
    """The supervisor of one part of a pipeline: starts the part again after a failure, with back-off."""

    def __init__(
        self, pipeline: str, part: str, troubles: Troubles, end_process: Callable[[BaseException], float | None]
    ) -> None:
        self._pipeline = pipeline
        self._part = part
        self._troubles = troubles
        self._end_process = end_process
        self._recovery = Recovery()
        self._told = ("", 0.0)

    def failed(self, error: BaseException) -> float | None:
        """Report a failure of the part. Return the seconds until the part runs again, None when it does not."""
        if not isinstance(error, Exception):
            return self._end_process(error)
        pause_s = self._recovery.failed()
        FAILURES.labels(self._part).inc()
        logger.error("%s failed and starts again in %.1f s: %s", self._part, pause_s, error, exc_info=error)
        reason, now_s = f"fails and is started again: {reason_of(error)}", time.monotonic()
        if self._told[0] != reason or now_s - self._told[1] > TELL_EVERY_S:
            self._told = (reason, now_s)
            self._troubles.tell(self._pipeline, self._part, reason, valid_s=TOLD_FOR_S)
        return pause_s

    def works(self) -> None:
        """Note a round without an error. Reports the recovery once after a failure; quick in all other rounds."""
        if self._recovery.recovered():
            self._told = ("", 0.0)
            logger.info("%s works again", self._part)
            self._troubles.tell(self._pipeline, self._part, "")
