"""Pushed batches: each is written once, however often it comes."""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass

from headrace.events.v1.record_pb2 import PushAccepted
from headrace.ingestion.v1 import ingestion_service_pb2 as pb
from headrace_data.errors import FilesTooSlow, SelectTooSlow
from headrace_runtime.errors import FailedPrecondition, Unavailable
from headrace_runtime.kafka import Fenced
from headrace_runtime.topics import PUSH_ACCEPTED

from headrace_ingestion.core.intake import Form, Taken
from headrace_ingestion.core.line import PushLine
from headrace_ingestion.core.push import require_id, to_check
from headrace_ingestion.ports import Accepted
from headrace_ingestion.transport.acceptance import Entrance, entrance_of, write_accepted
from headrace_ingestion.transport.consumer import count

FORMS = {pb.RECORD_FORM_FILE_ROW: Form.FILE}
RESTS_S = (0.1, 0.2, 0.4, 0.8, 1.6)
"""How long, at most, a batch rests each time that another instance took over pushes while it was written."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A batch that may be written."""

    request: pb.PushRequest
    entrance: Entrance
    """Of the pipeline by whose spec it was checked."""
    taken: Taken


class PushDesk:
    """Takes pushed batches: each pipeline checks its own, and all are written in the executor of what is accepted.

    A schema registry that is away, or a slow SELECT, keeps the pushes of its own pipeline waiting.
    """

    def __init__(self, entrances: Mapping[str, Entrance], log: Accepted, writing: Executor, line: PushLine) -> None:
        self._entrances = entrances
        self._log = log
        self._writing = writing
        self._line = line

    async def pushed(self, request: pb.PushRequest) -> pb.PushResponse:
        """Write a batch and answer once it is committed; one that came before gets its first answer.

        Raises InvalidInput, NotFound for an unknown pipeline, Overloaded when too much waits, FailedPrecondition when
        its SELECT takes too long, and Unavailable when others take over again and again.
        """
        if (known := self.known(request)) is not None:
            return known
        with self.place(request):
            return (await self.written([await self.checked(request)]))[0]

    def known(self, request: pb.PushRequest) -> pb.PushResponse | None:
        """Return the answer that a batch got before: whoever pushes a file again is at its new part soon.

        Raises InvalidInput for an id that is none, and NotFound for an unknown pipeline.
        """
        require_id(request.batch_id)
        known = self._known(self._entrance(request), request.batch_id)
        return known and _again(known)

    def place(self, request: pb.PushRequest) -> AbstractContextManager[None]:
        """Hold a batch among what waits of its pipeline. Raises Overloaded when too much does."""
        return self._line.place(request.pipeline, request.ByteSize())

    async def checked(self, request: pb.PushRequest) -> Checked:
        """Check a batch, after those of its pipeline that came before. Raises as `pushed` does."""
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        entrance = self._entrance(request)
        taken = await loop.run_in_executor(entrance.checking, context.run, _checked, request, entrance)
        return Checked(request, entrance, taken)

    async def written(self, batches: Sequence[Checked]) -> list[pb.PushResponse]:
        """Write batches of different ids in one transaction, and return the answer to each. Raises as `pushed` does."""
        current = list(batches)
        # Another spec may come in force while the first of them is checked again.
        while old := [at for at, each in enumerate(current) if each.entrance is not self._entrance(each.request)]:
            for at in old:
                current[at] = await self.checked(current[at].request)
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        return await loop.run_in_executor(self._writing, context.run, self._write, current)

    def _entrance(self, request: pb.PushRequest) -> Entrance:
        return entrance_of(self._entrances, request.pipeline)

    def _write(self, batches: Sequence[Checked]) -> list[pb.PushResponse]:
        for rest_s in RESTS_S:
            try:
                with self._log.writer() as transaction:
                    known = [self._known(each.entrance, each.request.batch_id) for each in batches]
                    accepted = [
                        before or write_accepted(transaction, each.entrance, each.request.batch_id, each.taken)
                        for before, each in zip(known, batches, strict=True)
                    ]
            except Fenced:
                # Instances that take pushes at the same time would fence each other without an end.
                time.sleep(random.uniform(0.2, 1.0) * rest_s)  # noqa: S311 - no secret
                continue
            answered = zip(known, batches, accepted, strict=True)
            return [_again(before) if before else self._new(batch, now) for before, batch, now in answered]
        raise Unavailable("other instances of ingestion took over pushes again and again; send the batch again")

    def _known(self, entrance: Entrance, batch_id: str) -> PushAccepted | None:
        return self._log.answer(entrance.intake.pipeline.own_name, batch_id)

    def _new(self, batch: Checked, accepted: PushAccepted) -> pb.PushResponse:
        self._log.remember(accepted)
        count(batch.entrance.intake.pipeline, batch.taken, PUSH_ACCEPTED.name)
        return pb.PushResponse(accepted=accepted.accepted, rejected=accepted.rejected)


def _again(known: PushAccepted) -> pb.PushResponse:
    return pb.PushResponse(accepted=known.accepted, rejected=known.rejected, repeated_batch=True)


def _checked(request: pb.PushRequest, entrance: Entrance) -> Taken:
    if (sent := len(request.records)) > (most := entrance.intake.most_records):
        raise FailedPrecondition(f"records: expected at most {most} of these at a time, got {sent}")
    try:
        contexts = [
            (each.key if each.HasField("key") else None, [(header.name, header.value) for header in each.headers])
            for each in request.contexts
        ]
        records = to_check(request.batch_id, request.records, contexts)
        return entrance.intake.take(records, numbered=True, form=FORMS.get(request.form, Form.SENT))
    except SelectTooSlow as error:
        raise FailedPrecondition(f"{error}; send fewer records at a time, or mend the SELECT") from error
    except FilesTooSlow as error:
        raise FailedPrecondition(f"{error}; send fewer records at a time") from error
