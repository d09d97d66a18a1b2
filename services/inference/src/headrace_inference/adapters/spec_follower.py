"""Follows the specs of pipelines, for those who send records: what fails here keeps no other call from its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable

from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace_runtime.kafka import CompactedView
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import PIPELINE_APPLIED

from headrace_inference.core.specs import Specs

logger = logging.getLogger(__name__)

AGAIN_S = 10.0
"""Seconds after a failure."""
OnApplied = Callable[[str, PipelineApplied | None, Record], None]


class SpecFollower:
    """Reads all of `headrace.pipeline.applied.v1`, and begins again after a failure.

    A replica that may not read the topic, such as one of before there were records, serves as it did.
    """

    def __init__(self, settings: KafkaSettings, specs: Specs, on_applied: OnApplied, name: str) -> None:
        self._specs = specs
        self._view = CompactedView(settings, PIPELINE_APPLIED, PipelineApplied, on_applied, name, self._read)

    def start(self) -> None:
        """Begin to follow, in a thread."""
        self._view.on_failure = self._failed
        self._view.start()

    def stop(self) -> None:
        """End the thread."""
        self._view.stop()

    def _read(self) -> None:
        self._specs.all_seen()

    def _failed(self, error: BaseException) -> float | None:
        logger.error("records are not read, as the specs of pipelines are not; again in %.0f s: %r", AGAIN_S, error)
        self._specs.trouble = str(error) or repr(error)
        return AGAIN_S
