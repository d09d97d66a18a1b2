"""Personal fields at the door: what a letter holds, what a replay reads, and what a key that is away stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from headrace_data.spec import load_pipeline
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.core.replay import Outcome, is_original, needs_original, plan
from headrace_ingestion.transport.converters import dead_letter
from headrace_ingestion.transport.suspects import Withheld, attempt, open_trial
from headrace_runtime.errors import Unavailable
from headrace_runtime.key_files import KeyFolder
from headrace_runtime.poison.bisection import CRASH
from headrace_runtime.records import Record
from headrace_runtime.schema_registry import RegistryAccess
from headrace_runtime.stream.dead_letters import StoredLetter, read_letter

from .conftest import DOCUMENT

PERSONAL = "  personal: {key: people, fields: {id: hash, email: drop}}\n"


@pytest.fixture
def door(tmp_path: Path) -> Intake:
    pipeline = load_pipeline(DOCUMENT.replace("  key: id\n", f"  key: id\n{PERSONAL}"))
    intake = Intake(pipeline, 900_000, 1_000, keys=KeyFolder(tmp_path, "HEADRACE_PERSONAL_KEYS_DIR").key)
    intake.keys_dir = tmp_path
    (tmp_path / "people").write_bytes(b"0123456789abcdef0123456789abcdef\n")
    return intake


def sent(**other: Any) -> bytes:
    return json.dumps({"id": "Ada", "level": 3, "state": 7, "email": "ada@example.org", **other}).encode()


def message(**other: Any) -> Record:
    return Record("meters", 0, 3, b"Ada", sent(**other), [("who", b"Ada")])


def rejected(intake: Intake, value: bytes, topic: str = "meters") -> StoredLetter:
    record = Record(topic, 0, 3, b"Ada", value, [("who", b"Ada"), ("traceparent", b"00-a-b-01")])
    ((_, rejection),) = intake.take([record]).rejected
    outgoing = dead_letter(record, rejection, topic, intake).outgoing("meters", 0)
    return read_letter(Record(outgoing.topic, 0, 1, outgoing.key, outgoing.value, outgoing.headers))


def test_a_letter_has_place_rule_and_sound_fields_alone(door: Intake) -> None:
    stored = rejected(door, sent(level="Ada"))
    letter = stored.letter
    assert (letter.topic, letter.partition, letter.offset, letter.rule) == ("meters", 0, 3, "type")
    assert letter.reason == "level: expected a value of type float32, got what is withheld"
    assert (letter.key, letter.headers) == (None, [("traceparent", b"00-a-b-01")])
    assert json.loads(letter.value or b"").keys() == {"id", "state"}
    assert "Ada" not in repr(stored)
    assert (letter.withheld, stored.value_bytes, stored.is_cut) == (True, len(sent(level="Ada")), False)


@pytest.mark.parametrize("value", [b"Ada", sent(more="Ada" * 1_000)])
def test_what_nobody_reads_is_withheld_as_a_whole(door: Intake, value: bytes) -> None:
    letter = rejected(door, value).letter
    assert letter.value == b""
    assert "Ada" not in repr(letter)


def test_what_kills_is_not_looked_into(door: Intake) -> None:
    taken = door.set_aside(Record("meters", 0, 3, None, sent()), "ValueError: Ada")
    ((record, rejection),) = taken.rejected
    assert (rejection.rule, rejection.reason) == (CRASH, "record: crash; the rest is withheld")
    assert dead_letter(record, rejection, "meters", door).value is None


def test_a_replay_reads_the_record_that_was_sent(door: Intake) -> None:
    stored = rejected(door, sent(level=None))
    assert needs_original(stored)
    assert is_original(message(level=None), stored, door)
    assert not is_original(message(level=None, state=8), stored, door)
    assert not is_original(message(level=None, more=1), stored, door)
    assert not is_original(None, stored, door)
    again = plan(stored, message(level=5), door, known=False)
    assert again.outcome is Outcome.ACCEPTED
    assert again.taken.batches[0].rows["id"][0].as_py() == json.loads(stored.letter.value or b"")["id"]


@pytest.mark.parametrize(
    ("topic", "why"), [("meters", "meters has it no longer"), ("headrace.push.accepted.v1", "it was pushed")]
)
def test_a_letter_is_no_record(door: Intake, topic: str, why: str) -> None:
    found = plan(rejected(door, sent(level=None), topic), None, door, known=False)
    assert (found.outcome, found.sends) == (Outcome.REJECTED, False)
    assert (
        found.reason == f"expected the record, which the letter withholds (personal fields, or a forgotten key): {why}"
    )


def test_without_its_key_nothing_is_taken(door: Intake) -> None:
    assert door.keys_dir is not None
    key = door.keys_dir / "people"
    for change in (key.unlink, lambda: key.write_bytes(b"short")):
        change()
        fresh = Intake(door.pipeline, 900_000, 1_000, keys=KeyFolder(door.keys_dir, "THE_SETTING").key)
        for ask in (fresh.require_key, lambda fresh=fresh: fresh.take([Record("meters", 0, 0, None, sent())])):
            with pytest.raises(Unavailable, match="people in THE_SETTING"):
                ask()
    # Once it was read, it is there for as long as the pipeline runs.
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    fresh.require_key()
    key.unlink()
    assert fresh.take([Record("meters", 0, 0, None, sent())]).batches[0].rows.num_rows == 1


def test_what_a_handler_says_of_a_record_is_withheld(door: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("Ada")

    work = attempt(open_trial(door, RegistryAccess())._setup)
    monkeypatch.setattr(Intake, "take", fails)
    with pytest.raises(Withheld, match=r"^ValueError$") as caught:
        work([Record("meters", 0, 0, None, sent())], None)
    assert caught.value.__suppress_context__


def test_records_are_tried_elsewhere_with_the_same_key(door: Intake) -> None:
    trial = open_trial(door, RegistryAccess())
    try:
        told: Callable[..., Any] = attempt(trial._setup)
        assert told([Record("meters", 0, 0, None, sent())], None)
    finally:
        trial.close()


def test_a_letter_is_read_with_the_key_and_the_headers_of_its_record(door: Intake) -> None:
    read = door.pipeline.stream.model_copy(update={"select": "$key AS id, $headers['who'] = 'Ada' AS state, level"})
    fields = [*read.fields[:2], read.fields[2].model_copy(update={"type": "bool"})]
    stream = read.model_copy(update={"fields": tuple(fields)})
    intake = Intake(door.pipeline.model_copy(update={"stream": stream}), 900_000, 1_000, keys=lambda _: b"k" * 32)
    held = json.loads(rejected(intake, sent(level="Ada")).letter.value or b"")
    assert (len(held["id"]), held["state"]) == (32, True)
