"""What is wrong with a pipeline, told to whoever looks at the platform: `headrace status` shows it."""

from __future__ import annotations

import logging

from headrace.events.v1.pipeline_pb2 import PipelineTroubled
from kafka import KafkaProducer

from headrace_runtime.kafka.producers import send
from headrace_runtime.messages import encode
from headrace_runtime.settings import ServiceSettings

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
MOST_REASON = 2_000
"""Longest reason, in characters."""


class Troubles:
    """Tells of the troubles of one service's instance. Safe for use by several threads.

    Troubles are rare, so each is told over a connection of its own: a service that is well keeps none. What Kafka does
    not take is logged and lost; a trouble that lasts is told again.
    """

    def __init__(self, settings: ServiceSettings, service: str) -> None:
        self._settings = settings
        self._service = service

    def tell(self, pipeline: str, part: str, reason: str, subject: str = "", valid_s: float = 0) -> None:
        """Tell what is wrong with a part of a pipeline, or with an empty reason that nothing is any more.

        `valid_s` is after how many seconds it is taken to be over unless it is told again; 0 for what stays.
        """
        trouble = PipelineTroubled(
            pipeline=pipeline,
            part=part,
            instance=self._settings.instance,
            subject=subject,
            # An error may tell of a name that is no UTF-8.
            reason=reason[:MOST_REASON].encode(errors="replace").decode(),
            valid_s=int(valid_s),
        )
        trouble.occur_time.GetCurrentTime()
        try:
            producer = KafkaProducer(
                client_id=f"{self._service}.troubles",
                allow_auto_create_topics=False,
                max_block_ms=int(TIMEOUT_S * 1_000),
                metrics_enabled=False,
                **self._settings.kafka_client(),
            )
            try:
                send(producer, encode(trouble, source=self._service)).get(timeout=TIMEOUT_S)
            finally:
                producer.close(timeout=1)
        except Exception as error:
            logger.warning("%s: a trouble of pipeline %s could not be told: %r", part, pipeline, error)
