"""The Open Inference Protocol on gRPC: bytes to the plane, and bytes back.

Handlers take and give bytes, so that a request is parsed once, where it is used, and travels to Kafka as it came.
"""

from __future__ import annotations

from typing import Any

import grpc
from headrace.open_inference import METHODS, SERVICE
from headrace_runtime.rpc.methods import WithInline

from headrace_inference.transport.plane import Plane

STREAMING = "ModelStreamInfer"
"""The one method whose requests and answers are streams."""


def open_inference_handler(plane: Plane) -> grpc.GenericRpcHandler:
    """Return the handler of every method of the service."""
    unary = METHODS.keys() - {STREAMING}
    methods: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(plane.method(name)) for name in unary}
    methods[STREAMING] = grpc.stream_stream_rpc_method_handler(plane.stream_infer)
    handler = grpc.method_handlers_generic_handler(SERVICE, methods)
    return WithInline(handler, {f"/{SERVICE}/ModelInfer": plane.infer_now})
