"""The methods of a server by their paths: what answers a call, surrounded by what happens around every call."""

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
"""Answers a serialised request in the thread in which it arrived, or returns None: then the method itself is asked.

It must be quick, because no other call is looked at meanwhile, and must have done nothing when it returns None.
"""


class WithInline(grpc.GenericRpcHandler):
    """A generic handler together with inline forms of some of its methods, by path. Those must be of the unary kind."""

    def __init__(self, handler: grpc.GenericRpcHandler, inline: Mapping[str, InlineMethod]) -> None:
        self._handler = handler
        self.inline = inline

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Return what the handler returns."""
        return self._handler.service(handler_call_details)


@dataclass(frozen=True, slots=True)
class Method:
    """What answers the calls of one path."""

    path: str
    behaviour: Callable[[Any, Call], Any]
    """A coroutine function, or one that returns an asynchronous generator."""
    takes_stream: bool
    gives_stream: bool
    read: Callable[[bytes], Any]
    """Makes a request of bytes; whatever it raises, the bytes are none."""
    write: Callable[[Any], bytes]
    inline: InlineMethod | None = None


class _Details(NamedTuple):
    method: str
    invocation_metadata: tuple[()] = ()


class Methods:
    """Finds methods, and keeps those that were found. The first interceptor is the outermost. Used in one thread."""

    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler], interceptors: Sequence[CallInterceptor]) -> None:
        self._handlers = tuple(handlers)
        self._interceptors = tuple(interceptors)
        self._found: dict[bytes, Method] = {}

    def find(self, path: bytes) -> Method | None:
        """Return the method of a path, None when no handler has it."""
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
