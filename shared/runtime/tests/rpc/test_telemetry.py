from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from headrace_runtime.rpc.host import GrpcHost
from prometheus_client import REGISTRY


def test_a_stream_that_its_caller_left_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    closed = threading.Event()

    async def count(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"1"
            await asyncio.Event().wait()
        finally:
            closed.set()

    handler = grpc.method_handlers_generic_handler("test.Left", {"Count": grpc.unary_stream_rpc_method_handler(count)})
    host = GrpcHost("127.0.0.1:0", [handler], [])
    host.start()
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{host.port}")
    with caplog.at_level(logging.WARNING), dial as channel:
        stream = channel.unary_stream("/test.Left/Count")(b"", timeout=30)
        assert next(stream) == b"1"
        stream.cancel()
        assert closed.wait(30)
        host.stop()

    assert caplog.records == []
    labels = {"rpc_service": "test.Left", "rpc_method": "Count", "rpc_status_code": "CANCELLED"}
    assert REGISTRY.get_sample_value("headrace_rpc_server_call_duration_seconds_count", labels) == 1
