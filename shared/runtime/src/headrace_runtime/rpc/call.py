"""One call as its methods see it, and the operations of gRPC's core behind it.

The core answers an operation with an event; `Core` hands each event to the function that was given with the operation.
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
"""What the details of a status take at most on their way: clients refuse more than 8 kB of metadata, in place of the
status, at random, and more than 16 always."""
_NEVER_S = 1e12
"""A deadline that is later than this, in seconds since 1970, is none."""


class Aborted(Exception):
    """A method ended its call with a status, which `Call` holds."""


class Call:
    """One call: what it brought, and what is set for its answer. Stands where grpc.aio has its servicer context.

    Its operations may be started from any thread, one after another; what is given as `then` runs in the thread of
    `Core` and must be short. Once the call is over, operations do nothing and nothing is told any more.
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
        """Whether the call's trace is recorded; None until that was decided."""

    # What methods ask and say.

    def invocation_metadata(self) -> Metadata:
        """Return the caller's metadata."""
        return self.metadata

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller stops waiting; None without a deadline."""
        return None if self.deadline_s > _NEVER_S else self.deadline_s - time.time()

    def set_trailing_metadata(self, metadata: Metadata, /) -> None:
        """Send metadata along with the status."""
        self.trailing = metadata

    def trailing_metadata(self) -> Metadata:
        """Return what goes along with the status."""
        return self.trailing

    def code(self) -> grpc.StatusCode | None:
        """Return the status that the call is ended with; None as long as that is OK."""
        return self._code

    def fail(self, code: grpc.StatusCode, details: str = "", metadata: Metadata = ()) -> Never:
        """End the call with a status: raises Aborted."""
        self._code, self._details = code, details
        if metadata:
            self.trailing = metadata
        raise Aborted(code, details)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> Never:
        """End the call with a status, as servicers of grpc.aio do: raises Aborted."""
        self.fail(code, details, trailing_metadata)

    # What carries it.

    def receive(self, then: Callable[[bytes | None], None]) -> None:
        """Tell the next message, None when there is none any more: the caller sent all, or the call is over.

        Which of the two is known when the same is asked once more: what `watch` tells comes before that answer.
        """

        def received(event: Any) -> None:
            then(event.batch_operations[0].message())

        self._start([cygrpc.ReceiveMessageOperation(_NO_FLAGS)], received)

    def watch(self, then: Callable[[], None]) -> None:
        """Tell when the call is over before it was answered: the caller left, or the deadline passed."""

        def closed(event: Any) -> None:
            if event.batch_operations[0].cancelled():
                then()

        self._watched = True
        self._start([cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)], closed)

    def send(self, message: bytes, then: Callable[[], None]) -> None:
        """Send one message of a stream, and tell when the next may follow, or the call is over."""
        self._start([*self._initial_metadata(), cygrpc.SendMessageOperation(message, _NO_FLAGS)], lambda _: then())

    def answer(self, message: bytes) -> None:
        """Send the only message and end the call with OK."""
        self._end([*self._initial_metadata(), cygrpc.SendMessageOperation(message, _NO_FLAGS)])

    def end(self) -> None:
        """End the call with its status: OK, or what it failed with."""
        self._end(self._initial_metadata())

    def refuse(self, code: grpc.StatusCode, details: str, metadata: Metadata = ()) -> None:
        """End the call with a status."""
        self._code, self._details = code, details
        if metadata:
            self.trailing = metadata
        self.end()

    def drop(self) -> None:
        """Let go of a call that is over: as long as it is held, a stop gives it its grace."""
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
            # The core keeps a call until it was asked whether the caller has closed it.
            operations.append(cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        self._start(operations, self._ended)

    def _ended(self, _event: Any) -> None:
        self._call = None

    def _start(self, operations: list[Any], then: Callable[[Any], None]) -> None:
        call = self._call
        if call is not None:
            call.start_server_batch(operations, then)


def _sendable(details: str) -> bytes:
    """Return details in UTF-8, cut where they would not arrive. On their way most bytes beyond ASCII become three."""
    data = details.encode(errors="replace")
    if 3 * len(data) <= _MOST_DETAILS_BYTES:
        return data
    sizes = accumulate(1 if 0x20 <= byte <= 0x7E and byte != ord("%") else 3 for byte in data)
    fitting = sum(1 for size in sizes if size <= _MOST_DETAILS_BYTES)
    return data if fitting == len(data) else data[:fitting].decode(errors="ignore").encode() + " […]".encode()
