"""Dead letters that are sent once more: which, how often, with which bytes, and what will become of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import UnionType

from headrace_data.cleaning import DUPLICATES, clean
from headrace_data.records import Rejection
from headrace_data.seen_keys import SeenKeys
from headrace_data.spec import Pipeline
from headrace_runtime.errors import InvalidInput
from headrace_runtime.poison.bisection import CRASH
from headrace_runtime.records import Record
from headrace_runtime.stream.dead_letters import DELETED_UNREAD, StoredLetter

from headrace_ingestion.core.intake import Form, Intake, Taken
from headrace_ingestion.core.push import REPLAY_PREFIX

STAGES = ("ingestion", "preprocessing", "backfill", "file")
"""Where records are rejected. A letter of preprocessing holds the row, one of `file` the pushed row of a file as JSON;
those of the others hold what was sent."""
MAX_REPLAYS = 2
"""How often one record is replayed."""


class Outcome(Enum):
    """What became of a letter, or would."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REPEATED = "repeated"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant; what is empty selects all."""

    stage: str = ""
    rule: str = ""
    field: str = ""
    place: tuple[int, int] | None = None
    """Partition and offset of one letter."""

    def takes(self, stored: StoredLetter) -> bool:
        """Tell whether a letter is meant."""
        letter = stored.letter
        pairs = ((self.stage, letter.stage), (self.rule, letter.rule), (self.field, letter.field))
        return all(not wanted or wanted == found for wanted, found in pairs) and self.place in (
            None,
            (stored.partition, stored.offset),
        )


def selection(stage: str, rule: str, field: str, letter_id: str) -> Selection:
    """Return which letters a caller means. Raises InvalidInput for a stage or an id that can be none."""
    if stage and stage not in STAGES:
        raise InvalidInput(f"filter.stage: expected {', '.join(STAGES)}, got {stage!r}")
    return Selection(stage, rule, field, _place(letter_id) if letter_id else None)


def _place(letter_id: str) -> tuple[int, int]:
    partition, colon, offset = letter_id.partition(":")
    if not (colon and _is_number(partition, 9) and _is_number(offset, 18)):
        raise InvalidInput(f"filter.id: expected partition:offset such as 0:17, got {letter_id!r}")
    return int(partition), int(offset)


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= digits


@dataclass(frozen=True, slots=True)
class Plan:
    """One letter, checked against the pipeline as it is now."""

    stored: StoredLetter
    outcome: Outcome
    reason: str = ""
    """Why the record is rejected again; empty unless it is."""
    taken: Taken = field(default_factory=lambda: Taken((), ()))
    """What to write; nothing unless something is to be sent."""

    @property
    def sends(self) -> bool:
        """Whether the record goes through the pipeline once more."""
        return bool(self.taken.batches or self.taken.rejected)

    @property
    def batch_id(self) -> str:
        """The id under which the record is accepted: a letter has one, so it is replayed once."""
        return batch_id(self.stored)


def batch_id(stored: StoredLetter) -> str:
    """Return the batch id of a letter's replay."""
    return f"{REPLAY_PREFIX}{stored.id}"


def needs_original(stored: StoredLetter) -> bool:
    """Tell whether a letter holds less than the producer sent: a row, bytes that were cut, or what is not withheld."""
    return stored.letter.stage == STAGES[1] or stored.is_cut or stored.letter.withheld


def is_original(sent: Record | None, stored: StoredLetter, intake: Intake) -> bool:
    """Tell whether what is found at the letter's origin is the record that the letter holds.

    A topic that was made anew under the same name holds others there. Numbers are left out of the comparison, because
    a row holds them rounded to their types. Of a record with personal fields only its size and the whole numbers that a
    letter would have of it now are compared, as its texts may be treated in another way.
    """
    if sent is None or sent.value is None:
        return False
    letter, value = stored.letter, sent.value
    if letter.withheld:
        same_size = letter.stage == STAGES[1] or len(value) == stored.value_bytes
        held = _of_type(letter.value, int)
        now = _of_type(intake.letter(sent), int) if same_size and held else {}
        return same_size and all(now[name] == held[name] for name in held.keys() & now.keys())
    if letter.stage != STAGES[1]:
        return len(value) == stored.value_bytes and value.startswith(letter.value or b"")
    found, exact = _document(value), _of_type(letter.value, str | int)
    return bool(found) and all(found.get(name) == item for name, item in exact.items())


def _of_type(value: bytes | None, exact: type | UnionType) -> dict[str, object]:
    return {name: item for name, item in _document(value).items() if isinstance(item, exact)}


def _document(value: bytes | None) -> dict[str, object]:
    try:
        document = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def plan(
    stored: StoredLetter,
    original: Record | None,
    intake: Intake,
    *,
    known: bool,
    dies: Callable[[Record], str | None] = lambda _: None,
) -> Plan:
    """Return what becomes of a letter now.

    `original` is what the producer sent, when that was looked up and found; `known` tells whether the letter was
    replayed before. `dies` returns of what a process dies that handles a record, None when it lives; it is asked about
    records of which processes have died.
    """
    if stored.letter.replays >= MAX_REPLAYS:
        return Plan(stored, Outcome.EXHAUSTED)
    if known:
        return Plan(stored, Outcome.REPEATED)
    if stored.letter.rule == DELETED_UNREAD:
        return Plan(stored, Outcome.REJECTED, f"expected a record, got none: {stored.letter.reason}")
    labels = intake.pipeline.stream.labels
    if labels is not None and stored.letter.topic == labels.topic:
        reason = f"expected a row, got a label: send it again to {labels.topic}, whole"
        return Plan(stored, Outcome.REJECTED, reason)
    if original is None and (reason := _lacks(stored)):
        return Plan(stored, Outcome.REJECTED, reason)
    letter = stored.letter
    # Letters of before times were kept say only when they were written, which was soon after.
    timestamp_ms = letter.timestamp_ms or stored.time_ms
    # A letter may lack the message's own key and headers, which tell of some records how they are read.
    key, value, headers = original[3:6] if original else (letter.key, letter.value, letter.headers)
    record = Record("", -1, 0, key, value, headers, timestamp_ms)
    if letter.rule == CRASH and (death := dies(record)):
        return Plan(stored, Outcome.REJECTED, f"expected a record that can be handled: {death}")
    taken = _taken(record, [Form.SENT] if original else _forms(stored, intake.pipeline), intake)
    faults = [rejection for _, rejection in taken.rejected] or dropped(taken, intake.pipeline)
    if faults:
        return Plan(stored, Outcome.REJECTED, faults[0].reason, taken)
    return Plan(stored, Outcome.ACCEPTED, taken=taken)


def _forms(stored: StoredLetter, pipeline: Pipeline) -> Sequence[Form]:
    """Return what a letter may hold, likelier forms first: what was sent, a row, or a row of a file."""
    letter, stream = stored.letter, pipeline.stream
    if letter.stage == STAGES[0] or not _document(letter.value):
        return (Form.SENT,)
    if letter.stage == STAGES[1]:
        return (Form.ROW,)
    if letter.stage == STAGES[3]:
        return (Form.FILE,)
    if letter.topic == stream.topic or (stream.format_kind == "json" and stream.envelope is None):
        return (Form.SENT,)
    # A backfill of a file or of another topic: the letter does not say which.
    return (Form.SENT, Form.FILE) if stream.format_kind == "json" else (Form.FILE, Form.SENT)


def _taken(record: Record, forms: Sequence[Form], intake: Intake) -> Taken:
    """Return a record as the first of these forms that it has; as the first of all when it has none."""
    found = [intake.take([record], form=forms[0])]
    if found[0].rejected:
        found += [intake.take([record], form=form) for form in forms[1:]]
    return next((taken for taken in found if not taken.rejected), found[0])


def _lacks(stored: StoredLetter) -> str:
    """Return what a letter does not hold of its record, without which there is none to send; empty when it has all."""
    letter = stored.letter
    if letter.withheld:
        # No producers' topic is called so.
        there = "it was pushed" if letter.topic.startswith("headrace.") else f"{letter.topic} has it no longer"
        return f"expected the record, which the letter withholds (personal fields, or a forgotten key): {there}"
    if stored.is_cut:
        held = len(letter.value or b"")
        return f"expected a record of {stored.value_bytes} bytes, got its first {held}: the rest is no longer there"
    return ""


def dropped(taken: Taken, pipeline: Pipeline) -> Sequence[Rejection]:
    """Return why cleaning will drop a row, as far as the row alone tells: not whether its key is a duplicate."""
    return [
        rejection
        for batch in taken.batches
        for rejection in clean(batch.rows, pipeline, SeenKeys(window=1)).dropped
        if rejection.rule != DUPLICATES
    ]
