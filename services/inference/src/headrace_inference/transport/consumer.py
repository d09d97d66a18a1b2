"""The topic of releases: every replica reads all of it, and keeps the newest release of each model and alias."""

from __future__ import annotations

import logging

from headrace.events.v1.model_pb2 import ModelReleased
from headrace_runtime.errors import Unavailable, Unprocessable
from headrace_runtime.kafka import CompactedView
from headrace_runtime.messages import Record
from headrace_runtime.service import Background
from headrace_runtime.telemetry import extract

from headrace_inference.adapters.release_loader import ReleaseLoader
from headrace_inference.transport.converters import to_release

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.5


def on_released(loader: ReleaseLoader, key: str, message: ModelReleased | None, record: Record) -> None:
    """Hand a release, or the end of one, to the loader. A release that cannot be served is logged and passed over."""
    if message is None:
        model, _, alias = key.rpartition("@")
        loader.withdraw((model, alias))
        return
    try:
        loader.announce(to_release(message), extract(record.headers))
    except Unprocessable as error:
        logger.error("%s:%s:%s: %s", record.topic, record.partition, record.offset, error)  # noqa: TRY400


HANDLERS = {ModelReleased: on_released}
"""What inference does with each event that it reads."""


class Bootstrap(Background):
    """Tells the loader once everything that the topic held at the start was announced."""

    def __init__(self, view: CompactedView[ModelReleased], loader: ReleaseLoader) -> None:
        super().__init__("release bootstrap")
        self._view = view
        self._loader = loader

    def run(self) -> None:
        """Wait for the end of the topic, then end."""
        while not self.stopping.is_set():
            try:
                self._view.wait_ready(_LOOK_AGAIN_S)
            except Unavailable:
                continue
            self._loader.all_announced()
            return
