"""The topic of releases: every replica reads all of it, and keeps the newest release of each model and alias."""

from __future__ import annotations

import logging
from collections.abc import Callable

from google.protobuf.message import Message
from headrace.events.v1.model_pb2 import ModelReleased
from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace_runtime.errors import Unprocessable
from headrace_runtime.records import Record
from headrace_runtime.stream.pipelines import Parts
from headrace_runtime.telemetry.traces import extract

from headrace_inference.core.specs import Spec, Specs
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


def on_applied(specs: Specs, scoring: Parts | None, key: str, message: PipelineApplied | None, record: Record) -> None:
    """Note the spec by which the records of a pipeline are read from now on, or that there is none any more.

    Where records of topics are answered, that begins or ends.
    """
    if message is None:
        specs.remove(key)
    else:
        specs.put(key, Spec(message.spec.digest, message.spec.json))
    if scoring is not None:
        scoring.take(key, message, record)


HANDLERS: dict[type[Message], Callable[..., None]] = {ModelReleased: on_released, PipelineApplied: on_applied}
"""What inference does with each event that it reads."""
