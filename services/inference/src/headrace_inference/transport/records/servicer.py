"""The service of records on gRPC: bytes to the desk, and bytes back."""

from __future__ import annotations

from typing import Any, Final

import grpc
from headrace.inference.v1 import record_service_pb2

from headrace_inference.transport.records.desk import RecordDesk

RECORD_SERVICE: Final[str] = record_service_pb2.DESCRIPTOR.services_by_name["RecordService"].full_name


def record_handler(desk: RecordDesk) -> grpc.GenericRpcHandler:
    """Return the handler of every method of the service."""
    methods: dict[str, Any] = {"PredictRecords": grpc.unary_unary_rpc_method_handler(desk.predict)}
    return grpc.method_handlers_generic_handler(RECORD_SERVICE, methods)
