"""Dead letters to read, and to send through the pipeline once more."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from headrace.ingestion.v1 import ingestion_service_pb2 as pb
from headrace_data.formats.json_lines import line_of
from headrace_runtime.errors import Unavailable
from headrace_runtime.kafka import Fenced
from headrace_runtime.poison.trials import Trial
from headrace_runtime.records import Record
from headrace_runtime.schema_registry import RegistryAccess
from headrace_runtime.stream.dead_letters import StoredLetter
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import links_to, tracer
from headrace_runtime.topics import PUSH_ACCEPTED

from headrace_ingestion.core.intake import Intake, Taken
from headrace_ingestion.core.replay import Outcome, Plan, Selection, batch_id, is_original, needs_original, plan
from headrace_ingestion.ports import Accepted, DeadLetters, OpenDeadLetters
from headrace_ingestion.transport.acceptance import Entrance, entrance_of, write_accepted
from headrace_ingestion.transport.consumer import count
from headrace_ingestion.transport.converters import letter_message, outcome_message, selection_of
from headrace_ingestion.transport.suspects import open_trial

LETTERS_PER_TRANSACTION = 64
CATCH_UP_S = 10.0
ENVELOPE_BYTES = 128 * 1024
"""Most that a letter takes besides the record's value: key, reason, origin."""

T = TypeVar("T")


class DeadLetterDesk:
    """Lists and replays dead letters, in threads of their own; writes in the executor of everything that is accepted.

    `max_answer_bytes` is the largest answer. `catch_up` returns once every pipeline applied before is in force here: a
    replay meant for a mended one must not meet the old one.
    """

    def __init__(
        self,
        open_letters: OpenDeadLetters,
        entrances: Mapping[str, Entrance],
        log: Accepted,
        writing: Executor,
        catch_up: Callable[[float], None],
        max_answer_bytes: int,
        registries: RegistryAccess,
    ) -> None:
        self._open_letters = open_letters
        self._entrances = entrances
        self._log = log
        self._writing = writing
        self._catch_up = catch_up
        self._registries = registries
        self._room = max(0, max_answer_bytes - ENVELOPE_BYTES)

    async def listed(self, request: pb.ListDeadLettersRequest) -> AsyncIterator[pb.ListDeadLettersResponse]:
        """Yield the letters that are there now."""
        intake = entrance_of(self._entrances, request.pipeline).intake
        counts: Counter[str] | None = Counter() if request.count else None
        find = partial(self._find, intake, selection_of(request.filter), request.limit, counts)
        async for found in _in_thread(find):
            for letter in found:
                yield pb.ListDeadLettersResponse(letter=letter)
        if counts:
            yield pb.ListDeadLettersResponse(counts=counts)

    async def replayed(self, request: pb.ReplayDeadLettersRequest) -> AsyncIterator[pb.ReplayDeadLettersResponse]:
        """Send the letters that are there now, and yield what became of each; with dry_run send nothing."""
        wanted = selection_of(request.filter)
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        await loop.run_in_executor(None, self._catch_up, CATCH_UP_S)
        entrance = entrance_of(self._entrances, request.pipeline)
        async for plans in _in_thread(partial(self._plan, entrance, wanted)):
            if not request.dry_run and any(one.sends for one in plans):
                plans = await loop.run_in_executor(self._writing, context.run, self._send, entrance, plans)
            for one in plans:
                yield outcome_message(one, self._room)

    def _find(
        self, intake: Intake, wanted: Selection, limit: int, counts: Counter[str] | None
    ) -> Iterator[list[pb.DeadLetter]]:
        """Yield letters up to the limit, and count all of them by rule where `counts` is given."""
        taken = 0
        with self._open_letters(intake.pipeline.own_name) as log:
            for letters in log.letters(wanted.place):
                found = [stored for stored in letters if wanted.takes(stored)]
                if counts is not None:
                    counts.update(stored.letter.rule for stored in found)
                if limit:
                    found = found[: limit - taken]
                taken += len(found)
                # Looking a message up takes a while, so only a single letter comes with it.
                yield [
                    letter_message(stored, self._room, _shown(log, stored, intake) if wanted.place else None)
                    for stored in found
                ]
                if limit and taken >= limit and counts is None:
                    return

    def _plan(self, entrance: Entrance, wanted: Selection) -> Iterator[list[Plan]]:
        pipeline = entrance.intake.pipeline.own_name
        # What others have died of is tried elsewhere first; the process is started when there is any.
        trial = open_trial(entrance.intake, self._registries, cleans=True)
        with self._open_letters(pipeline) as log, closing(trial):
            for letters in log.letters(wanted.place):
                chosen = [stored for stored in letters if wanted.takes(stored)]
                for start in range(0, len(chosen), LETTERS_PER_TRANSACTION):
                    chunk = chosen[start : start + LETTERS_PER_TRANSACTION]
                    yield [self._plan_one(entrance, log, trial, stored) for stored in chunk]

    def _plan_one(self, entrance: Entrance, log: DeadLetters, trial: Trial, stored: StoredLetter) -> Plan:
        known = self._log.answer(entrance.intake.pipeline.own_name, batch_id(stored)) is not None
        original = None if known else _original(log, stored, entrance.intake)
        return plan(stored, original, entrance.intake, known=known, dies=partial(_dies, trial, stored))

    def _send(self, entrance: Entrance, plans: list[Plan]) -> list[Plan]:
        """Write what is to be sent in one transaction, and return what became of every letter."""
        pipeline = entrance.intake.pipeline
        told, accepted = [], []
        try:
            with self._log.writer() as transaction:
                for one in plans:
                    if one.sends and self._log.answer(pipeline.own_name, one.batch_id):
                        told.append(replace(one, outcome=Outcome.REPEATED, reason="", taken=Taken((), ())))
                        continue
                    told.append(one)
                    if one.sends:
                        links = links_to(one.stored.contexts)
                        attributes = {names.PIPELINE: pipeline.name, names.DEAD_LETTER: one.stored.id}
                        with tracer.start_as_current_span(names.SPAN_REPLAY, links=links, attributes=attributes):
                            answer = write_accepted(transaction, entrance, one.batch_id, one.taken, one.stored)
                        accepted.append(answer)
        except Fenced as error:
            raise Unavailable("another instance of ingestion took over; ask for the replay again") from error
        for answer in accepted:
            self._log.remember(answer)
        for one in told:
            if one.sends:
                count(pipeline, one.taken, PUSH_ACCEPTED.name)
        return told


def _dies(trial: Trial, stored: StoredLetter, record: Record) -> str | None:
    letter = stored.letter
    # With key, headers and time, as these may decide how it is read.
    return trial.attempt([record._replace(topic=letter.topic, partition=letter.partition, offset=letter.offset)])


def _shown(log: DeadLetters, stored: StoredLetter, intake: Intake) -> bytes | None:
    """Return what the producer sent, for a caller: nothing of a record with personal fields."""
    found = None if stored.letter.withheld else _original(log, stored, intake)
    return found.value if found else None


def _original(log: DeadLetters, stored: StoredLetter, intake: Intake) -> Record | None:
    """Return what the producer sent, None when the letter holds it itself or it is no longer there."""
    letter = stored.letter
    if not needs_original(stored) or letter.topic in ("", PUSH_ACCEPTED.name) or letter.offset < 0:
        return None
    sent = log.sent(letter.topic, letter.partition, letter.offset)
    if sent is not None and intake.pipeline.stream.has_lines:
        sent = sent._replace(value=line_of(sent.value, letter.index))
    return sent if is_original(sent, stored, intake) else None


async def _in_thread(make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Yield what a generator that blocks yields, always from the same thread; it is closed there too."""
    executor, loop = ThreadPoolExecutor(1, thread_name_prefix="dead letters"), asyncio.get_running_loop()
    iterator = make()
    try:
        while (item := await loop.run_in_executor(executor, next, iterator, None)) is not None:
            yield item
    finally:
        executor.submit(_close, iterator)
        executor.shutdown(wait=False)


def _close(iterator: Iterator[object]) -> None:
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
