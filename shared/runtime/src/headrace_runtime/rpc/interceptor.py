"""What all interceptors of the gRPC host share: something that happens around every call, whatever its kind."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from headrace_runtime.rpc.call import Call

if TYPE_CHECKING:
    from headrace_runtime.rpc.methods import InlineMethod


class CallInterceptor(ABC):
    """Surrounds the methods of a server with `around`. Methods must be coroutines or asynchronous generators."""

    @abstractmethod
    def around(self, method: str, context: Call) -> AbstractAsyncContextManager[None]:
        """Return what surrounds one call of `method` ("/package.Service/Method")."""

    @abstractmethod
    def surround_inline(self, method: str, behaviour: InlineMethod) -> InlineMethod:
        """Return the inline form of a method, surrounded."""

    def surround(self, method: str, behaviour: Any) -> Callable[[Any, Any], Any]:
        """Return the function behind a method, surrounded."""

        async def answer(request: Any, context: Call) -> Any:
            async with self.around(method, context):
                return await behaviour(request, context)

        async def stream(request: Any, context: Call) -> AsyncIterator[Any]:
            async with self.around(method, context):
                async for response in behaviour(request, context):
                    yield response

        if inspect.isasyncgenfunction(behaviour):
            return stream
        if inspect.iscoroutinefunction(behaviour):
            return answer
        raise TypeError(f"{method}: expected a coroutine function or an asynchronous generator, got {behaviour!r}")
