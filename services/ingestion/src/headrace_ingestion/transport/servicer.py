"""IngestionService: records from clients that do not speak Kafka, and the letters of those that were rejected."""
# ruff: noqa: N802 - the methods have the contract's names

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from headrace.ingestion.v1 import ingestion_service_pb2 as pb
from headrace.ingestion.v1 import ingestion_service_pb2_grpc

from headrace_ingestion.transport.dead_letters import DeadLetterDesk
from headrace_ingestion.transport.push_streams import PushStreams
from headrace_ingestion.transport.pushes import PushDesk

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["IngestionService"].full_name


class IngestionServicer(ingestion_service_pb2_grpc.IngestionServiceServicer):
    """Answers Push after the records are committed; lists and replays dead letters."""

    def __init__(self, pushes: PushDesk, streams: PushStreams, letters: DeadLetterDesk) -> None:
        self._pushes = pushes
        self._streams = streams
        self._letters = letters

    async def Push(self, request: pb.PushRequest, context: Any) -> pb.PushResponse:
        """Write a batch once, and answer as the first time when it comes again."""
        return await self._pushes.pushed(request)

    async def PushStream(
        self, requests: AsyncIterator[pb.PushStreamRequest], context: Any
    ) -> AsyncIterator[pb.PushStreamResponse]:
        """Write batches in their order, each once, and answer each in its turn."""
        async for response in self._streams.answered(requests):
            yield response

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: Any
    ) -> AsyncIterator[pb.ListDeadLettersResponse]:
        """Stream dead letters, oldest first within each partition."""
        async for response in self._letters.listed(request):
            yield response

    async def ReplayDeadLetters(
        self, request: pb.ReplayDeadLettersRequest, context: Any
    ) -> AsyncIterator[pb.ReplayDeadLettersResponse]:
        """Send dead letters once more, each at most once, and stream what became of them."""
        async for response in self._letters.replayed(request):
            yield response
