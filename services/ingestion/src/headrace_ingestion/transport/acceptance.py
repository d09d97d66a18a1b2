"""The one way by which records enter without the producers' topic: pushed, or replayed from a dead letter."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from headrace.events.v1.record_pb2 import PushAccepted, RecordRejected
from headrace_runtime.errors import NotFound
from headrace_runtime.kafka import Transaction
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.stream.dead_letters import DeadLetter, StoredLetter
from headrace_runtime.topics import PUSH_ACCEPTED

from headrace_ingestion.core.intake import Form, Intake, Taken
from headrace_ingestion.core.push import answer_to, placed
from headrace_ingestion.core.replay import STAGES
from headrace_ingestion.transport.consumer import count_late
from headrace_ingestion.transport.converters import SOURCE, dead_letter, raw_message


@dataclass(frozen=True, slots=True)
class Entrance:
    """One pipeline that takes records: its intake and the number of partitions of its raw topic."""

    intake: Intake
    partitions: int
    checking: Executor = field(default_factory=partial(ThreadPoolExecutor, 1, thread_name_prefix="pushed"))
    """Where what is pushed is checked, one batch after another; it ends with the entrance."""


def entrance_of(entrances: Mapping[str, Entrance], pipeline: str) -> Entrance:
    """Return a pipeline's entrance. Raises NotFound that names the known ones."""
    entrance = entrances.get(pipeline)
    if entrance is None:
        known = ", ".join(sorted(entrances)) or "none"
        raise NotFound(f"pipeline: expected one of {known}, got {pipeline!r}")
    return entrance


def write_accepted(
    transaction: Transaction, entrance: Entrance, batch_id: str, taken: Taken, replayed: StoredLetter | None = None
) -> PushAccepted:
    """Write a batch's answer, its rows and its dead letters; the rows name the message that accepted them.

    What a replayed letter's record becomes carries the letter's origin, and how often it was replayed.
    """
    pipeline = entrance.intake.pipeline
    accepted = _answer(pipeline.own_name, batch_id, taken)
    partition, offset = transaction.send_now(encode(accepted, source=SOURCE))
    # Batches of one accepting partition stay in one raw partition: the freezer counts on their order there.
    target = partition % entrance.partitions
    replay = replayed.replay_headers() if replayed else ()
    rows = [placed(batch, partition, offset) for batch in taken.batches]
    for batch in rows:
        count_late(batch, entrance.intake)
    transaction.send(raw_message(batch, pipeline.own_name, pipeline.digest, target, replay) for batch in rows)
    told = PUSH_ACCEPTED.name, entrance.intake, taken.form
    dead = [
        dead_letter(record._replace(partition=partition, offset=offset, number=rejection.position), rejection, *told)
        for record, rejection in taken.rejected
    ]
    if replayed:
        dead = [_after_replay(letter, replayed) for letter in dead]
    elif taken.form is Form.FILE:
        # By its stage a replay knows how the value is read.
        dead = [replace(letter, stage=STAGES[3]) for letter in dead]
    transaction.send(letter.outgoing(pipeline.own_name, target) for letter in dead)
    return accepted


def _after_replay(letter: DeadLetter, replayed: StoredLetter) -> DeadLetter:
    """Return a letter of a replay. With the same value it is of the same stage, which tells how that is read."""
    again = letter.after_replay(replayed.replay_headers())
    is_same = not again.withheld and again.value == replayed.letter.value
    return replace(again, stage=replayed.letter.stage) if is_same else again


def _answer(pipeline: str, batch_id: str, taken: Taken) -> PushAccepted:
    answer = answer_to(taken)
    return PushAccepted(
        pipeline=pipeline,
        batch_id=batch_id,
        accepted=answer.accepted,
        rejected=[
            RecordRejected(index=index, rule=rejection.rule, reason=rejection.reason)
            for index, rejection in answer.rejected
        ],
    )
