"""gRPC server reflection, `v1` and `v1alpha`, over the default descriptor pool and a private pool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import _async, reflection_pb2  # type: ignore[import-untyped]

V1 = "grpc.reflection.v1.ServerReflection"
V1_ALPHA = "grpc.reflection.v1alpha.ServerReflection"
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Pools:
    """Several descriptor pools used as one. A name is looked up in each pool in turn; the first match is returned."""

    def __init__(self, *pools: DescriptorPool) -> None:
        self._pools = pools

    def __getattr__(self, name: str) -> Any:
        def find(*arguments: Any) -> Any:
            for pool in self._pools:
                try:
                    return getattr(pool, name)(*arguments)
                except KeyError:
                    continue
            raise KeyError(arguments)

        return find


def reflection_handlers(
    service_names: Iterable[str], private_pool: DescriptorPool | None
) -> list[grpc.GenericRpcHandler]:
    """Return the handlers of server reflection for the named services, for health and for reflection itself.

    Both versions of the protocol have the same messages, field by field. grpcio implements `v1alpha`; clients try `v1`
    first.
    """
    default = descriptor_pool.Default()
    pool = Pools(private_pool, default) if private_pool is not None else default
    servicer = _async.ReflectionServicer((*service_names, HEALTH, V1_ALPHA), pool=pool)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method}) for name in (V1, V1_ALPHA)]
