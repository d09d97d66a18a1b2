"""Reports of a pipeline's troubles to the platform's users: `headrace status` shows them."""

from __future__ import annotations

import logging

from headrace.events.v1.pipeline_pb2 import PipelineTroubled
from kafka import KafkaProducer

from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.kafka.producers import send
from headrace_runtime.settings import ServiceSettings

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
MOST_REASON = 2_000
"""Longest reason, in characters."""


class Troubles:
    """Reports the troubles of one instance of a service. Thread-safe.

    Troubles are rare, so each report opens a connection of its own, and a healthy service keeps none open. A report
    that Kafka does not accept is logged and lost. A trouble that lasts is reported again.
    """

    def __init__(self, settings: ServiceSettings, service: str) -> None:
        self._settings = settings
        self._service = service

    def tell(self, pipeline: str, part: str, reason: str, subject: str = "", valid_s: float = 0) -> None:
        """Report the trouble of a part of a pipeline. An empty reason reports that the trouble is over.

        The trouble counts as over after `valid_s` seconds unless it is reported again; 0 means that it stays.
        """
        trouble = PipelineTroubled(
            pipeline=pipeline,
            part=part,
            instance=self._settings.instance,
            subject=subject,
            # The text of an error may hold a name that is not UTF-8.
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
