"""The base class of the gRPC host's interceptors: code that runs around each call, unary or streaming."""

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
    """Wraps the methods of a server in `around`: coroutine functions and asynchronous generator functions."""

    @abstractmethod
    def around(self, method: str, context: Call) -> AbstractAsyncContextManager[None]:
        """Return the context manager of one call of `method` ("/package.Service/Method")."""

    @abstractmethod
    def surround_inline(self, method: str, behaviour: InlineMethod) -> InlineMethod:
        """Return the inline form of a method, wrapped."""

    def surround(self, method: str, behaviour: Any) -> Callable[[Any, Any], Any]:
        """Return the function of a method, wrapped. Raises TypeError for a function of another kind."""

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
