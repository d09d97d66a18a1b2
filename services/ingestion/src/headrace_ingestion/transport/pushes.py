"""Pushed batches: each is written once, however often it comes."""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Mapping
from concurrent.futures import Executor

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
        require_id(request.batch_id)
        own_name = entrance_of(self._entrances, request.pipeline).intake.pipeline.own_name
        if known := self._log.answer(own_name, request.batch_id):
            # Whoever pushes a file again is at its new part soon.
            return _again(known)
        with self._line.place(request.pipeline, request.ByteSize()):
            return await self._taken(request)

    async def _taken(self, request: pb.PushRequest) -> pb.PushResponse:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        before, entrance = None, entrance_of(self._entrances, request.pipeline)
        while entrance is not before:
            taken = await loop.run_in_executor(entrance.checking, context.run, _checked, request, entrance)
            # What was checked by a spec that is no more in force meanwhile is checked again.
            before, entrance = entrance, entrance_of(self._entrances, request.pipeline)
        return await loop.run_in_executor(self._writing, context.run, self._write, request, entrance, taken)

    def _write(self, request: pb.PushRequest, entrance: Entrance, taken: Taken) -> pb.PushResponse:
        for rest_s in RESTS_S:
            try:
                with self._log.writer() as transaction:
                    if known := self._log.answer(entrance.intake.pipeline.own_name, request.batch_id):
                        return _again(known)
                    accepted = write_accepted(transaction, entrance, request.batch_id, taken)
            except Fenced:
                # Instances that take pushes at the same time would fence each other without an end.
                time.sleep(random.uniform(0.2, 1.0) * rest_s)  # noqa: S311 - no secret
                continue
            self._log.remember(accepted)
            count(entrance.intake.pipeline, taken, PUSH_ACCEPTED.name)
            return pb.PushResponse(accepted=accepted.accepted, rejected=accepted.rejected)
        raise Unavailable("other instances of ingestion took over pushes again and again; send the batch again")


def _again(known: PushAccepted) -> pb.PushResponse:
    return pb.PushResponse(accepted=known.accepted, rejected=known.rejected, repeated_batch=True)


def _checked(request: pb.PushRequest, entrance: Entrance) -> Taken:
    if (sent := len(request.records)) > (most := entrance.intake.most_records):
        raise FailedPrecondition(f"records: expected at most {most} of these at a time, got {sent}")
    try:
        records = to_check(request.batch_id, request.records)
        return entrance.intake.take(records, numbered=True, form=FORMS.get(request.form, Form.SENT))
    except SelectTooSlow as error:
        raise FailedPrecondition(f"{error}; send fewer records at a time, or mend the SELECT") from error
    except FilesTooSlow as error:
        raise FailedPrecondition(f"{error}; send fewer records at a time") from error
