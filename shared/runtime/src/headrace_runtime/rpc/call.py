"""One call: its interface to methods, and the operations of gRPC's core behind it.

The core answers an operation with an event. `Core` passes each event to the function that belongs to the operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Never

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

Metadata = Sequence[tuple[str, str | bytes]]

_NO_FLAGS = 0
_MOST_DETAILS_BYTES = 6 * 1024
"""Greatest size of the details of a status on the wire. Clients reject metadata beyond 8 kB at random, and beyond 16 kB
always. The caller then sees the rejection in place of the status."""
_NEVER_S = 1e12
"""Seconds since 1970. A later deadline means that the call has none."""


class Aborted(Exception):
    """Raised when a method ends its call with a status, which `Call` holds."""


class Call:
    """One call: its request data and the state of its answer. Takes the place of the servicer context of grpc.aio.

    Operations may start in any thread, one after another. The callback `then` runs in the thread of `Core`, and must
    be short. Once the call is over, operations do nothing, and no callback is called.
    """

    __slots__ = (
        "_call", "_code", "_details", "_watched", "_with_metadata",
        "deadline_s", "metadata", "method", "recorded", "trailing",
    )  # fmt: skip

    def __init__(self, event: Any) -> None:
        self._call: Any = event.call
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._watched = self._with_metadata = False
        self.method: bytes = event.call_details.method
        """The path, "/package.Service/Method"."""
        self.deadline_s: float = event.call_details.deadline
        self.metadata: Metadata = event.invocation_metadata
        self.trailing: Metadata = ()
        self.recorded: bool | None = None
        """Whether the call's trace is recorded; None until that is decided."""

    # The interface to methods.

    def invocation_metadata(self) -> Metadata:
        """Return the metadata that the caller sent."""
        return self.metadata

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None without a deadline."""
        return None if self.deadline_s > _NEVER_S else self.deadline_s - time.time()

    def set_trailing_metadata(self, metadata: Metadata, /) -> None:
        """Set the metadata to send with the status."""
        self.trailing = metadata

    def trailing_metadata(self) -> Metadata:
        """Return the metadata to send with the status."""
        return self.trailing

    def code(self) -> grpc.StatusCode | None:
        """Return the status code set for the end of the call; None means OK."""
        return self._code

    def fail(self, code: grpc.StatusCode, details: str = "", metadata: Metadata = ()) -> Never:
        """Set the status of the call, and raise Aborted, which ends the call."""
        self._code, self._details = code, details
        if metadata:
            self.trailing = metadata
        raise Aborted(code, details)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> Never:
        """Do the same as `fail`, under the name that servicers of grpc.aio use."""
        self.fail(code, details, trailing_metadata)

    # The operations of the core.

    def receive(self, then: Callable[[bytes | None], None]) -> None:
        """Pass the next message to `then`; None at the end of the stream, or when the call is over.

        A second `receive` tells the two apart, because the callback of `watch` runs before its answer.
        """

        def received(event: Any) -> None:
            then(event.batch_operations[0].message())

        self._start([cygrpc.ReceiveMessageOperation(_NO_FLAGS)], received)

    def watch(self, then: Callable[[], None]) -> None:
        """Call `then` when the call ends unanswered: the caller cancelled it, or its deadline passed."""

        def closed(event: Any) -> None:
            if event.batch_operations[0].cancelled():
                then()

        self._watched = True
        self._start([cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)], closed)

    def send(self, message: bytes, then: Callable[[], None]) -> None:
        """Send one message of a stream. `then` is called when the next message may follow, or the call is over."""
        self._start([*self._initial_metadata(), cygrpc.SendMessageOperation(message, _NO_FLAGS)], lambda _: then())

    def answer(self, message: bytes) -> None:
        """Send the single response, and end the call with OK."""
        self._end([*self._initial_metadata(), cygrpc.SendMessageOperation(message, _NO_FLAGS)])

    def end(self) -> None:
        """End the call with its status: OK, or the status set by `fail`."""
        self._end(self._initial_metadata())

    def refuse(self, code: grpc.StatusCode, details: str, metadata: Metadata = ()) -> None:
        """Set the status of the call, and end it, without an exception."""
        self._code, self._details = code, details
        if metadata:
            self.trailing = metadata
        self.end()

    def drop(self) -> None:
        """Release a call that is over. A stop of the server would wait for it until its grace time ends."""
        self._call = None

    def _initial_metadata(self) -> list[Any]:
        if self._with_metadata:
            return []
        self._with_metadata = True
        return [cygrpc.SendInitialMetadataOperation((), _NO_FLAGS)]

    def _end(self, operations: list[Any]) -> None:
        code = 0 if self._code is None else self._code.value[0]
        status = cygrpc.SendStatusFromServerOperation(self.trailing, code, _sendable(self._details), _NO_FLAGS)
        operations.append(status)
        if not self._watched:
            # The core keeps a call until this operation was started once.
            operations.append(cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        self._start(operations, self._ended)

    def _ended(self, _event: Any) -> None:
        self._call = None

    def _start(self, operations: list[Any], then: Callable[[Any], None]) -> None:
        call = self._call
        if call is not None:
            call.start_server_batch(operations, then)


def _sendable(details: str) -> bytes:
    """Return details in UTF-8, cut to the size limit. On the wire, most bytes outside printable ASCII take three."""
    data = details.encode(errors="replace")
    if 3 * len(data) <= _MOST_DETAILS_BYTES:
        return data
    sizes = accumulate(1 if 0x20 <= byte <= 0x7E and byte != ord("%") else 3 for byte in data)
    fitting = sum(1 for size in sizes if size <= _MOST_DETAILS_BYTES)
    return data if fitting == len(data) else data[:fitting].decode(errors="ignore").encode() + " […]".encode()
