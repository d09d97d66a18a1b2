"""The ingestion client: pushing records, what was rejected, and sending it once more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import grpc
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub

from headrace_client.addresses import find_addresses
from headrace_client.channels import ServiceClient, trace_metadata
from headrace_client.errors import Rejected
from headrace_client.flow import PATIENCE_S, Flow
from headrace_client.tls import Tls


class IngestionClient(ServiceClient):
    """Calls ingestion; a context manager. Not connected before the first call.

    Every method raises Unreachable when nobody answers, TimedOut after `timeout_s`, and a Rejected when ingestion
    refuses. Answers are the protobuf messages of `headrace.ingestion.v1`.
    """

    def __init__(self, address: str | None = None, *, timeout_s: float = 300.0, tls: Tls | None = None) -> None:
        super().__init__("ingestion", address or find_addresses().ingestion, timeout_s, tls)
        self._stub = IngestionServiceStub(self._channel)

    def push(
        self,
        pipeline: str,
        batch_id: str,
        records: Sequence[bytes],
        form: messages.RecordForm.ValueType = messages.RECORD_FORM_UNSPECIFIED,
    ) -> messages.PushResponse:
        """Push one batch of records; a repeat of its id within 24 hours gets the first answer and writes nothing.

        Waits where ingestion asks for that, and for one that is away, see `push_all`.
        """
        request = messages.PushRequest(pipeline=pipeline, batch_id=batch_id, records=records, form=form)
        ((_, answer),) = self.push_all([request])
        return answer

    def push_all(
        self, requests: Iterable[messages.PushRequest], *, patience_s: float = PATIENCE_S
    ) -> Iterator[tuple[messages.PushRequest, messages.PushResponse]]:
        """Push batches on a stream, in their order, and yield each with its answer. `requests` are read in a thread.

        What was not answered is sent again when ingestion asks to wait, does not answer, or does not know the pipeline
        yet, until no answer has come for `patience_s` after a stream broke off: as ids are known, each is written once.
        Answers come while `requests` wait for more. Raises what the last try did, and what `requests` raise once all
        before it is answered.
        """
        try:
            with self._translated():
                yield from Flow(self._stub, requests, self._timeout_s, patience_s).answers()
        except Rejected as error:
            if error.code == grpc.StatusCode.UNIMPLEMENTED.name:
                told = f"ingestion at {self.address}: expected one that knows PushStream, got an older one: upgrade it"
                raise Rejected(told, error.code) from error
            raise

    def dead_letters(
        self, pipeline: str, wanted: messages.DeadLetterFilter | None = None, *, limit: int = 0
    ) -> Iterator[messages.DeadLetter]:
        """Yield the dead letters of a pipeline, oldest first within each partition; a limit of zero is none.

        A filter by id gives a letter of a later stage the bytes that its producer sent, while they are retained.
        """
        request = messages.ListDeadLettersRequest(pipeline=pipeline, filter=wanted, limit=limit)
        call = self._stub.ListDeadLetters(request, timeout=self._timeout_s, metadata=trace_metadata())
        for answer in self._streamed(call):
            yield answer.letter

    def counted_dead_letters(
        self, pipeline: str, wanted: messages.DeadLetterFilter | None = None, *, limit: int
    ) -> tuple[list[messages.DeadLetter], dict[str, int] | None]:
        """Return the first letters, and how many there are in all by rule; None where ingestion cannot count."""
        request = messages.ListDeadLettersRequest(pipeline=pipeline, filter=wanted, limit=limit, count=True)
        call = self._stub.ListDeadLetters(request, timeout=self._timeout_s, metadata=trace_metadata())
        letters: list[messages.DeadLetter] = []
        counts: dict[str, int] | None = None
        for answer in self._streamed(call):
            if answer.HasField("letter"):
                letters.append(answer.letter)
            else:
                counts = dict(answer.counts)
        return letters, counts if letters else {}

    def replay(
        self, pipeline: str, wanted: messages.DeadLetterFilter | None = None, *, dry_run: bool = False
    ) -> Iterator[messages.ReplayDeadLettersResponse]:
        """Send dead letters through the pipeline once more, each at most once, and yield what became of them.

        Letters are sent as the answers are read; a call that broke off is simply made again.
        """
        request = messages.ReplayDeadLettersRequest(pipeline=pipeline, filter=wanted, dry_run=dry_run)
        call = self._stub.ReplayDeadLetters(request, timeout=self._timeout_s, metadata=trace_metadata())
        yield from self._streamed(call)
