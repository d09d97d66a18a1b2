"""IngestionService: records from clients that do not speak Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from headrace.events.v1.record_pb2 import PushAccepted, RecordRejected
from headrace.ingestion.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc
from headrace_runtime.errors import NotFound, Unavailable
from headrace_runtime.kafka import Fenced, Transaction
from headrace_runtime.messages import encode
from headrace_runtime.topics import PUSH_ACCEPTED
from opentelemetry import context as otel_context

from headrace_ingestion.adapters.push_log import PushLog
from headrace_ingestion.core.intake import Intake, Taken
from headrace_ingestion.core.push import answer_to, placed, to_check
from headrace_ingestion.transport.consumer import count
from headrace_ingestion.transport.converters import SOURCE, dead_letter, raw_message


class Entrance:
    """One pipeline that takes pushed records: its intake and the number of partitions of its raw topic."""

    def __init__(self, intake: Intake, partitions: int) -> None:
        self.intake = intake
        self.partitions = partitions


class IngestionServicer(ingestion_service_pb2_grpc.IngestionServiceServicer):
    """Answers Push after the records are committed."""

    def __init__(self, entrances: Mapping[str, Entrance], log: PushLog) -> None:
        self._entrances = entrances
        self._log = log
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

    def _push(
        self, request: ingestion_service_pb2.PushRequest, current: otel_context.Context
    ) -> tuple[PushAccepted, bool]:
        otel_context.attach(current)
        entrance = self._entrances.get(request.pipeline)
        if entrance is None:
            known = ", ".join(sorted(self._entrances)) or "none"
            raise NotFound(f"pipeline: expected one of {known}, got {request.pipeline!r}")
        records = to_check(request.batch_id, request.records)
        taken = entrance.intake.take(records)
        try:
            with self._log.writer() as transaction:
                if known_answer := self._log.answer(request.pipeline, request.batch_id):
                    return known_answer, True
                accepted = _accepted(request, taken)
                _write(transaction, accepted, taken, entrance)
        except Fenced as error:
            raise Unavailable("another instance of ingestion took over pushes; send the batch again") from error
        self._log.remember(accepted)
        count(entrance.intake.pipeline, taken, PUSH_ACCEPTED.name)
        return accepted, False


def _accepted(request: ingestion_service_pb2.PushRequest, taken: Taken) -> PushAccepted:
    answer = answer_to(taken)
    return PushAccepted(
        pipeline=request.pipeline,
        batch_id=request.batch_id,
        accepted=answer.accepted,
        rejected=[
            RecordRejected(index=index, rule=rejection.rule, reason=rejection.reason)
            for index, rejection in answer.rejected
        ],
    )


def _write(transaction: Transaction, accepted: PushAccepted, taken: Taken, entrance: Entrance) -> None:
    partition, offset = transaction.send_now(encode(accepted, source=SOURCE))
    pipeline = entrance.intake.pipeline
    target = offset % entrance.partitions
    rows = [placed(batch, partition, offset) for batch in taken.batches]
    transaction.send(raw_message(batch, pipeline.name, pipeline.digest, target) for batch in rows)
    dead = [dead_letter(record, rejection, PUSH_ACCEPTED.name) for record, rejection in taken.rejected]
    transaction.send(letter.outgoing(pipeline.name, target) for letter in dead)
