"""The topic of releases: every replica reads all of it, and keeps the newest release of each model and alias."""

from __future__ import annotations

import logging

from headrace.events.v1.model_pb2 import ModelReleased
from headrace_runtime.errors import Unprocessable
from headrace_runtime.records import Record
from headrace_runtime.telemetry.traces import extract

from headrace_inference.ports import Releases
from headrace_inference.transport.converters import to_release

logger = logging.getLogger(__name__)


def on_released(loader: Releases, cpu_class: str, key: str, message: ModelReleased | None, record: Record) -> None:
    """Hand a release, or the end of one, to the loader. A release that cannot be served is logged and passed over.

    `cpu_class` is that of the processor that it is to be served on.
    """
    if message is None:
        model, _, alias = key.rpartition("@")
        loader.withdraw((model, alias))
        return
    try:
        release = to_release(message, cpu_class)
        measured = [each.cpu_class for each in message.classes]
        if measured and cpu_class not in measured:
            told = "%s is served here: its variants were measured on %s, and this processor is of class %s"
            logger.info(told, release, ", ".join(measured), cpu_class)
        loader.announce(release, extract(record.headers))
    except Unprocessable as error:
        logger.error("%s:%s:%s: %s", record.topic, record.partition, record.offset, error)  # noqa: TRY400


HANDLERS = {ModelReleased: on_released}
"""What inference does with each event that it reads."""
