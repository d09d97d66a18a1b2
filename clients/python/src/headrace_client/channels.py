"""gRPC channels: how they are opened, what every call carries, what a failed call becomes, and who holds one."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self, TypeVar

import grpc
from opentelemetry import propagate

from headrace_client.errors import (
    InvalidRequest,
    NotFound,
    NotPossibleNow,
    NotReady,
    Rejected,
    TimedOut,
    TooLarge,
    Unreachable,
)
from headrace_client.tls import Tls, find_tls

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest answer that a client takes; the server's own default limit."""

REJECTIONS: dict[grpc.StatusCode, type[Rejected]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: NotPossibleNow,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TooLarge,
}

PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata by which a server says that it is there, but not ready: a lost connection carries none."""

LOOPBACK = ("127.", "localhost:", "[::1]:")

AnswerT = TypeVar("AnswerT")


def open_channel(address: str, tls: Tls | None = None) -> grpc.Channel:
    """Return a channel to `host:port`. It connects with the first call.

    Without `tls` the settings decide. Raises SettingInvalid when they, or the files that they name, cannot be used.
    """
    tls = tls or find_tls()
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", -1),
        # A server that restarts is found again within a second, not within the default two minutes.
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if address.startswith(LOOPBACK):
        options.append(("grpc.enable_http_proxy", 0))
    if tls is None:
        return grpc.insecure_channel(address, options=options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.secure_channel(address, tls.credentials(), options=options)


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Return the metadata that continues the trace that is active here; empty when none is."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(carrier.items())


@contextmanager
def translated(service: str, address: str) -> Iterator[None]:
    """Turn a failed gRPC call into one of the client's errors; service is a name such as "the registry"."""
    try:
        yield
    except grpc.RpcError as error:
        raise translate(error, service, address) from error


def translate(error: grpc.RpcError, service: str, address: str) -> Exception:
    """Return the client's error for a failed gRPC call."""
    # What a call raises is also a grpc.Call, which the type of the exception does not say.
    call: Any = error
    code: grpc.StatusCode = call.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    details: str = (call.details() if hasattr(error, "details") else "") or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        trailing = call.trailing_metadata() or ()
        if any(key == PUSHBACK for key, _ in trailing):
            return NotReady(f"{service} at {address} is not ready: {details}", code.name)
        return Unreachable(service, address, details)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimedOut(f"{service} at {address} did not answer in time")
    message = details or f"{service} at {address} failed with {code.name} and gave no reason"
    if code is grpc.StatusCode.INTERNAL:
        message = f"{service} at {address} failed: {details or 'no reason given'}; its log tells more"
    return REJECTIONS.get(code, Rejected)(message, code.name)


class ServiceClient:
    """The client of one service; a context manager. Not connected before the first call."""

    def __init__(self, service: str, address: str, timeout_s: float, tls: Tls | None) -> None:
        """`service` is a name for messages, such as "the registry"."""
        self.address = address
        self._service = service
        self._timeout_s = timeout_s
        self._channel = open_channel(address, tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_ended: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; calls under way end with an error."""
        self._channel.close()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._service, self.address)

    def _streamed(self, call: Iterable[AnswerT]) -> Generator[AnswerT, None, None]:
        """Yield a call's answers; it ends when nobody asks for more."""
        with self._translated():
            try:
                yield from call
            finally:
                if isinstance(call, grpc.Call):
                    call.cancel()
