"""IngestionService: records from clients that do not speak Kafka."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from headrace.events.v1.record_pb2 import PushAccepted
from headrace.ingestion.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc
from headrace_runtime.errors import Unavailable
from headrace_runtime.kafka import Fenced
from headrace_runtime.topics import PUSH_ACCEPTED
from opentelemetry import context as otel_context

from headrace_ingestion.adapters.push_log import PushLog
from headrace_ingestion.core.push import to_check
from headrace_ingestion.transport.acceptance import Entrance, entrance_of, write_accepted
from headrace_ingestion.transport.consumer import count
from headrace_ingestion.transport.dead_letters import DeadLetterDesk

RESTS_S = (0.1, 0.2, 0.4, 0.8, 1.6)
"""How long, at most, a batch rests each time that another instance took over pushes while it was written."""


class IngestionServicer(ingestion_service_pb2_grpc.IngestionServiceServicer):
    """Answers Push after the records are committed; lists and replays dead letters."""

    def __init__(self, entrances: Mapping[str, Entrance], log: PushLog, desk: DeadLetterDesk) -> None:
        self._entrances = entrances
        self._log = log
        self._desk = desk
        # Transactions of one producer come one after another anyway.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="push")

    async def Push(  # noqa: N802
        self, request: ingestion_service_pb2.PushRequest, context: Any
    ) -> ingestion_service_pb2.PushResponse:
        """Write a batch once, and answer as the first time when it comes again."""
        current = otel_context.get_current()
        loop = asyncio.get_running_loop()
        accepted, repeated = await loop.run_in_executor(self._executor, self._push, request, current)
        return ingestion_service_pb2.PushResponse(
            accepted=accepted.accepted, rejected=accepted.rejected, repeated_batch=repeated
        )

    async def ListDeadLetters(  # noqa: N802
        self, request: ingestion_service_pb2.ListDeadLettersRequest, context: Any
    ) -> AsyncIterator[ingestion_service_pb2.ListDeadLettersResponse]:
        """Stream dead letters, oldest first within each partition."""
        async for response in self._desk.listed(request):
            yield response

    async def ReplayDeadLetters(  # noqa: N802
        self, request: ingestion_service_pb2.ReplayDeadLettersRequest, context: Any
    ) -> AsyncIterator[ingestion_service_pb2.ReplayDeadLettersResponse]:
        """Send dead letters once more, each at most once, and stream what became of them."""
        async for response in self._desk.replayed(request, self._executor):
            yield response

    def _push(
        self, request: ingestion_service_pb2.PushRequest, current: otel_context.Context
    ) -> tuple[PushAccepted, bool]:
        otel_context.attach(current)
        entrance = entrance_of(self._entrances, request.pipeline)
        records = to_check(request.batch_id, request.records)
        taken = entrance.intake.take(records, numbered=True)
        for rest_s in RESTS_S:
            try:
                with self._log.writer() as transaction:
                    if known_answer := self._log.answer(request.pipeline, request.batch_id):
                        return known_answer, True
                    accepted = write_accepted(transaction, entrance, request.batch_id, taken)
            except Fenced:
                # Instances that take pushes at the same time would fence each other without an end.
                time.sleep(random.uniform(0.2, 1.0) * rest_s)  # noqa: S311 - no secret
                continue
            self._log.remember(accepted)
            count(entrance.intake.pipeline, taken, PUSH_ACCEPTED.name)
            return accepted, False
        raise Unavailable("other instances of ingestion took over pushes again and again; send the batch again")
