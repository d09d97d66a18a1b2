"""The flow of pushed batches: how long a caller waits when ingestion says so, or says nothing."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Final

import grpc
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub

from headrace_client.channels import PUSHBACK, trace_metadata

IN_FLIGHT: Final = 4
"""Batches that are sent before the first one is answered: one is checked while another is written."""
PATIENCE_S: Final = 60.0
"""How long no answer may come."""
REST_S: Final = 0.5
"""Between two tries where ingestion does not say how long."""
_LATER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
"""What passes: it starts, or has not heard of the pipeline yet."""


@dataclass
class Sent:
    """A batch on its way."""

    request: messages.PushRequest
    call: Any
    """Its call: a grpc.Future."""


class Flow:
    """Sends batches, and each again as long as it pays."""

    def __init__(self, stub: IngestionServiceStub, timeout_s: float, patience_s: float) -> None:
        self._stub = stub
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._answered = time.monotonic()
        self._over = threading.Event()

    def sent(self, request: messages.PushRequest) -> Sent:
        """Return a batch that was sent."""
        return Sent(request, self._call(request))

    def answer(self, sent: Sent) -> messages.PushResponse:
        """Return the answer to a batch. Raises grpc.RpcError when there is none."""
        while True:
            try:
                answer: messages.PushResponse = sent.call.result()
            except grpc.RpcError as error:
                rest_s = self._rest_s(error)
                if rest_s is None:
                    raise
                self._over.wait(rest_s)
                sent.call = self._call(sent.request)
            else:
                self._answered = time.monotonic()
                return answer

    def _call(self, request: messages.PushRequest) -> Any:
        return self._stub.Push.future(request, timeout=self._timeout_s, metadata=trace_metadata())

    def _rest_s(self, error: Any) -> float | None:
        """Return in how many seconds a batch is sent again; None when it is not."""
        asked = next((value for key, value in error.trailing_metadata() or () if key == PUSHBACK), "")
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and asked:
            # Ingestion works, on the batches of others too: waiting is no sign that something is wrong.
            return int(asked) / 1e3
        if error.code() not in _LATER or time.monotonic() - self._answered > self._patience_s:
            return None
        return int(asked) / 1e3 if asked else REST_S
