"""Records on which processes die: tried in a process of their own, and parked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace_data.spec import parse_canonical
from headrace_runtime.messages import Outgoing, Record
from headrace_runtime.trial_child import Attempt
from headrace_runtime.trials import Trial

from headrace_ingestion.core.intake import Intake
from headrace_ingestion.transport.consumer import handler, messages_of
from headrace_ingestion.transport.converters import incoming

CHILD = "headrace_ingestion.child"


class IntakeSuspects:
    """The records of one pipeline's producers: a message is a record."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def open_trial(self) -> Trial:
        """Return a process that checks records as the intake does."""
        intake = self._intake
        spec = intake.pipeline.canonical_json().decode()
        return Trial(
            CHILD, {"spec": spec, "batch_bytes": intake.batch_bytes, "max_record_bytes": intake.max_record_bytes}
        )

    def rows(self, _: Record) -> int:
        """Return 1: a message cannot be divided."""
        return 1

    def handle_without(self, record: Record, faults: Mapping[int, str]) -> Sequence[Outgoing]:
        """Park the record, or handle it when nothing is wrong with it."""
        return self.park(record, faults[0]) if faults else handler(self._intake)([record])

    def park(self, record: Record, reason: str) -> Sequence[Outgoing]:
        """Return the dead letter, and the batch that accounts for the record's place."""
        return messages_of(self._intake.set_aside(incoming(record), reason), self._intake.pipeline)


def attempt(setup: Mapping[str, Any]) -> Attempt:
    """Return what a trial does with records."""
    pipeline = parse_canonical(setup["spec"].encode())
    handle = handler(Intake(pipeline, setup["batch_bytes"], setup["max_record_bytes"]))
    return lambda records, _: handle(records)
