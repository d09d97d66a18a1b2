"""What all interceptors of the gRPC host share: something that happens around every call, whatever its kind."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]


class CallInterceptor(ABC):
    """Surrounds the methods of a server with `around`. Methods must be coroutines or asynchronous generators."""

    @abstractmethod
    def around(self, method: str, context: Any) -> AbstractAsyncContextManager[None]:
        """Return what surrounds one call of `method` ("/package.Service/Method") in its servicer context."""

    def wrap(self, method: str, handler: Handler) -> Handler:
        """Return the handler of a method ("/package.Service/Method"), surrounded."""
        kind = f"{_kind(handler.request_streaming)}_{_kind(handler.response_streaming)}"
        behaviour = getattr(handler, kind)
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: Handler = make(
            self.surround(method, behaviour),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    def surround(self, method: str, behaviour: Any) -> Callable[[Any, Any], Any]:
        """Return the function behind a method, surrounded."""

        async def answer(request: Any, context: Any) -> Any:
            async with self.around(method, context):
                return await behaviour(request, context)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self.around(method, context):
                async for response in behaviour(request, context):
                    yield response

        if inspect.isasyncgenfunction(behaviour):
            return stream
        if inspect.iscoroutinefunction(behaviour):
            return answer
        raise TypeError(f"{method}: expected a coroutine function or an asynchronous generator, got {behaviour!r}")


class Surrounded(grpc.GenericRpcHandler):
    """A generic handler whose methods are surrounded by interceptors, the first one outermost.

    A method is wrapped at its first call and the wrapped form is kept: a later call costs one dictionary look-up.
    grpc.aio's own interceptors are asked through a chain of coroutines in every call.
    """

    def __init__(self, handler: grpc.GenericRpcHandler, interceptors: Sequence[CallInterceptor]) -> None:
        self._handler = handler
        self._interceptors = tuple(interceptors)
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the surrounded method, or None for one that the handler does not know."""
        handler = self._handler.service(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            wrapped = handler
            for interceptor in reversed(self._interceptors):
                wrapped = interceptor.wrap(method, wrapped)
            known = self._wrapped[method] = (handler, wrapped)
        return known[1]


def _kind(streaming: bool) -> str:
    return "stream" if streaming else "unary"
