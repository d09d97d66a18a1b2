from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from headrace_runtime.rpc.telemetry import TelemetryInterceptor
from prometheus_client import REGISTRY


class Context:
    """What the interceptor asks of a call."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def code(self) -> grpc.StatusCode | None:
        return None


async def count(_request: bytes, _context: Any) -> AsyncIterator[int]:
    yield 1
    yield 2


def test_a_stream_that_its_caller_left_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """grpc.aio drops the stream of such a call; the event loop closes it later, in another task."""

    async def leave() -> None:
        stream = TelemetryInterceptor().surround("/test.Left/Count", count)(b"", Context())

        async def first() -> int:
            return int(await anext(stream))

        assert await asyncio.create_task(first()) == 1
        await asyncio.create_task(stream.aclose())

    with caplog.at_level(logging.WARNING):
        asyncio.run(leave())

    assert caplog.records == []
    labels = {"rpc_service": "test.Left", "rpc_method": "Count", "rpc_status_code": "CANCELLED"}
    assert REGISTRY.get_sample_value("headrace_rpc_server_call_duration_seconds_count", labels) == 1
