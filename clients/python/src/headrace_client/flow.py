"""The flow of pushed batches: a stream, and another one where it breaks off, from the first that is not answered."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

import grpc
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub

from headrace_client.channels import PUSHBACK, trace_metadata

PATIENCE_S: Final = 60.0
"""How long no answer may come once a stream has broken off: before, nothing may have been sent."""
REST_S: Final = 0.5
"""Between two tries where ingestion does not say how long."""
_LATER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
"""What passes: it starts, or has not heard of the pipeline yet."""


class Flow:
    """Sends batches in their order, and what is not answered again, as long as it pays."""

    def __init__(
        self,
        stub: IngestionServiceStub,
        requests: Iterable[messages.PushRequest],
        timeout_s: float,
        patience_s: float,
    ) -> None:
        """One stream may last `timeout_s`; another follows where something was answered meanwhile, or nothing sent."""
        self._stub = stub
        self._requests = iter(requests)
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._ahead: deque[messages.PushRequest] = deque()
        """What was sent and is not answered."""
        self._done = 0
        self._alone = threading.Lock()
        """Held to change either."""
        self._asking = threading.Lock()
        """Held while a batch is asked for, and by no answer. Each stream asks in a thread, which may outlast it."""
        self._fault: Exception | None = None
        """What the requests raised."""
        self._answered_s = 0.0
        self._broken_s: float | None = None
        """Since when no stream has brought an answer; None while one may."""
        self._over = threading.Event()

    def answers(self) -> Iterator[tuple[messages.PushRequest, messages.PushResponse]]:
        """Yield each batch with its answer. Raises grpc.RpcError where none comes any more, and what batches raise."""
        while True:
            began_s = time.monotonic()
            call: Any = self._stub.PushStream(self._sent(), timeout=self._timeout_s, metadata=trace_metadata())
            try:
                for each in call:
                    with self._alone:
                        request = self._ahead.popleft()
                        self._done += 1
                    self._answered_s, self._broken_s = time.monotonic(), None
                    yield request, each.answer
            except grpc.RpcError as error:
                rest_s = self._rest_s(error, began_s)
                if rest_s is None:
                    raise
                self._over.wait(rest_s)
            else:
                if self._fault is not None:
                    raise self._fault
                return
            finally:
                call.cancel()

    def _sent(self) -> Iterator[messages.PushStreamRequest]:
        number = self._done
        while (request := self._numbered(number)) is not None:
            yield messages.PushStreamRequest(batch=request)
            number += 1

    def _numbered(self, number: int) -> messages.PushRequest | None:
        """Return a batch that is not answered, by its number among all; None behind the last, or once it is."""
        with self._asking:
            if (known := self._known(number)) is not None:
                return known
            if number < self._done:
                return None  # of a stream before
            try:
                request = next(self._requests)
            except StopIteration:
                return None
            except Exception as error:
                self._fault = error
                return None
            with self._alone:
                self._ahead.append(request)
            return request

    def _known(self, number: int) -> messages.PushRequest | None:
        with self._alone:
            at = number - self._done
            return self._ahead[at] if 0 <= at < len(self._ahead) else None

    def _rest_s(self, error: Any, began_s: float) -> float | None:
        """Return in how many seconds another stream begins; None when none does."""
        asked = next((value for key, value in error.trailing_metadata() or () if key == PUSHBACK), "")
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and asked:
            # Ingestion works, on the batches of others too: waiting is no sign that something is wrong.
            return int(asked) / 1e3
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and (self._answered_s > began_s or not self._ahead):
            return 0.0
        now_s = time.monotonic()
        self._broken_s = self._broken_s or now_s
        if error.code() not in _LATER or now_s - self._broken_s > self._patience_s:
            return None
        return int(asked) / 1e3 if asked else REST_S
