"""Dead letters as plain JSON values: the shapes that `--json` prints and the README documents."""

from __future__ import annotations

from headrace.ingestion.v1 import ingestion_service_pb2 as messages

from headrace_client.proposing import Group, Proposal
from headrace_client.views import View, bytes_view, iso_time


def letter_view(letter: messages.DeadLetter) -> View:
    """Return a dead letter: why, by which stage, from where, and the bytes.

    Of a record with personal fields, `withheld`, the value is what may be told of it. Bytes are text where they are
    UTF-8; others stand under `…_base64`, and the text is null. The origin has an `index` where the record was not the
    first, or only one, of its message or pushed batch.
    """
    return {
        "id": letter.id,
        "stage": letter.stage,
        "rule": letter.rule,
        "field": letter.field or None,
        "reason": letter.reason,
        "origin": _origin(letter),
        "reject_time": iso_time(letter.reject_time),
        "replays": letter.replays,
        "trace_id": letter.trace_id or None,
        **bytes_view("key", letter.key),
        **bytes_view("value", letter.value),
        **bytes_view("original", letter.original),
        "withheld": letter.withheld,
    }


def _origin(letter: messages.DeadLetter) -> View:
    place: View = {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
    return place | ({"index": letter.index} if letter.index else {})


def group_view(group: Group, proposed: Proposal | None) -> View:
    """Return letters of one rule and field: how many, the first one, and what would accept them where that is plain.

    `accepts` is null where it cannot be tried.
    """
    return {
        "stage": group.stage,
        "rule": group.rule,
        "field": group.field or None,
        "letters": group.letters,
        "example": {"id": group.example.id, "reason": group.example.reason},
        "changes": list(proposed.changes) if proposed else [],
        "accepts": proposed.accepts if proposed else None,
        "gaps": proposed.gaps if proposed else 0,
        "tried": proposed.tried if proposed else 0,
    }


def replay_view(answer: messages.ReplayDeadLettersResponse) -> View:
    """Return what became of a replayed letter."""
    return {
        "id": answer.letter.id,
        "outcome": outcome_word(answer.outcome),
        "reason": answer.reason or None,
        "stage": answer.letter.stage,
        "rule": answer.letter.rule,
        "field": answer.letter.field or None,
        "replays": answer.letter.replays,
    }


def outcome_word(outcome: messages.ReplayOutcome.ValueType) -> str:
    """Return `accepted`, `rejected`, `repeated` or `exhausted`."""
    return messages.ReplayOutcome.Name(outcome).removeprefix("REPLAY_OUTCOME_").lower()
