"""The methods of a server by their paths, each wrapped in the interceptors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from headrace_runtime.rpc.call import Call
from headrace_runtime.rpc.interceptor import CallInterceptor

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

InlineMethod = Callable[[bytes, Call], bytes | None]
"""The inline form of a method: answers a serialised request in the thread that received it, or returns None.

After None, the method itself answers, so the inline form must not have had an effect. It must be quick, because the
thread processes no other call in the meantime.
"""


class WithInline(grpc.GenericRpcHandler):
    """A generic handler with inline forms of some of its methods, by path. These methods must be unary."""

    def __init__(self, handler: grpc.GenericRpcHandler, inline: Mapping[str, InlineMethod]) -> None:
        self._handler = handler
        self.inline = inline

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the method that the handler finds, None without one."""
        return self._handler.service(handler_call_details)


@dataclass(frozen=True, slots=True)
class Method:
    """The method of one path, and its serialisation."""

    path: str
    behaviour: Callable[[Any, Call], Any]
    """A coroutine function, or one that returns an asynchronous generator."""
    takes_stream: bool
    gives_stream: bool
    read: Callable[[bytes], Any]
    """Parses a request. Any exception means that the bytes are not a valid request."""
    write: Callable[[Any], bytes]
    inline: InlineMethod | None = None


class _Details(NamedTuple):
    method: str
    invocation_metadata: tuple[()] = ()


class Methods:
    """Finds methods by path, and caches them. The first interceptor is the outermost. Not thread-safe."""

    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler], interceptors: Sequence[CallInterceptor]) -> None:
        self._handlers = tuple(handlers)
        self._interceptors = tuple(interceptors)
        self._found: dict[bytes, Method] = {}

    def find(self, path: bytes) -> Method | None:
        """Return the method of a path; None when no handler has it."""
        method = self._found.get(path)
        if method is None and (method := self._look(path.decode(errors="replace"))) is not None:
            self._found[path] = method
        return method

    def _look(self, path: str) -> Method | None:
        details: Any = _Details(path)
        for handler in self._handlers:
            if (found := handler.service(details)) is not None:
                inline = handler.inline.get(path) if isinstance(handler, WithInline) else None
                return self._surrounded(path, found, inline)
        return None

    def _surrounded(self, path: str, handler: Handler, inline: InlineMethod | None) -> Method:
        kinds = (handler.request_streaming, handler.response_streaming)
        behaviour: Any = getattr(handler, "_".join("stream" if each else "unary" for each in kinds))
        for interceptor in reversed(self._interceptors):
            behaviour = interceptor.surround(path, behaviour)
            inline = inline and interceptor.surround_inline(path, inline)
        return Method(
            path, behaviour, *kinds, handler.request_deserializer or bytes, handler.response_serializer or bytes, inline
        )
