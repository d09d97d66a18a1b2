"""What all interceptors of the gRPC host share: something that happens around every call, whatever its kind."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Surrounds the methods of a server with `around`. Methods must be coroutines or asynchronous generators.

    A method is wrapped at its first call and the wrapped form is kept: a later call costs one dictionary look-up.
    """

    def __init__(self) -> None:
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    @abstractmethod
    def around(self, method: str, context: Any) -> AbstractAsyncContextManager[None]:
        """Return what surrounds one call of `method` ("/package.Service/Method") in its servicer context."""

    async def intercept_service(self, continuation: Continuation, handler_call_details: Any) -> Any:
        """Return the wrapped method, or None for an unknown one."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(method, handler))
        return known[1]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        kind = f"{_kind(handler.request_streaming)}_{_kind(handler.response_streaming)}"
        behaviour = getattr(handler, kind)
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: Handler = make(
            self._surround(method, behaviour),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    def _surround(self, method: str, behaviour: Any) -> Callable[[Any, Any], Any]:
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


def _kind(streaming: bool) -> str:
    return "stream" if streaming else "unary"
