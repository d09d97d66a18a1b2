"""Personal fields: what is stored in their place, what a dead letter may hold, and which specs make no sense."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from headrace_data.backfill import Backfill
from headrace_data.errors import KeyMissing
from headrace_data.files import rows_of_file
from headrace_data.history import History
from headrace_data.manifest import Provenance, SegmentManifest
from headrace_data.parts import read_part
from headrace_data.private import TREATMENTS, withheld
from headrace_data.private.hash import Hash
from headrace_data.private.keys import Secret
from headrace_data.private.tokenize import Tokenize
from headrace_data.records import RecordChecker
from headrace_data.spec import Pipeline, SpecInvalid, load_pipeline, parse_canonical
from headrace_data.spec.private_fields import Treatment
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import MemoryStore

KEYS = {"people": b"0123456789abcdef0123456789abcdef\n", "others": b"x" * 32, "short": b"secret"}
DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: calls}
stream:
  topic: calls
  key: call
  %s
  schema:
    - {name: call, type: string, role: id}
    - {name: customer, type: string, role: group}
    - {name: note, type: string, role: feature, nullable: true}
    - {name: minutes, type: float32, role: feature}
    - {name: state, type: int64, role: label}
prepare: {clean: {missing: keep}, transform: {note: {impute: {constant: "?"}, encode: hash}}}
train: {network: {kind: mlp, hidden: [4]}}
"""
PERSONAL = "personal: {key: people, fields: {call: tokenize, customer: hash, note: mask, email: drop}}"


def pipeline_of(personal: str = PERSONAL) -> Pipeline:
    return load_pipeline(DOCUMENT % personal)


def checker(personal: str = PERSONAL) -> RecordChecker:
    return RecordChecker(pipeline_of(personal).stream, KEYS.__getitem__)


def record(**other: Any) -> bytes:
    sound = {"call": "c-1", "customer": "Ada Lovelace", "note": "ring +44 20 7946 0958", "minutes": 3.5, "state": 1}
    return json.dumps({**sound, "email": "ada@example.org", **other}).encode()


def checked(*values: bytes | None, of: RecordChecker | None = None) -> Any:
    return (of or checker()).check(values, [0] * len(values), range(len(values)))


def test_personal_fields_come_out_treated() -> None:
    done = checked(record(), record(call=7, note=None), record(call="7", customer="Zoë"))
    first, second, third = done.batch.to_pylist()
    assert not done.rejected
    assert done.masked == {"phone": 1 + 1}
    assert (first["note"], second["note"]) == ("ring [phone]", None)
    assert first["customer"] == second["customer"] != third["customer"]
    assert len(first["customer"]) == 32 == len(bytes.fromhex(first["customer"])) * 2
    # A number and its digits are one id, and whoever has the key gets it back.
    assert second["call"] == third["call"] != first["call"]
    assert Tokenize(Secret("people", KEYS.__getitem__)).revealed(first["call"]) == "c-1"
    assert (first["minutes"], first["state"]) == (3.5, 1)
    assert b"Ada" not in bytes(str(done.batch.to_pydict()), "utf-8")


def test_another_key_makes_other_values_and_reveals_nothing() -> None:
    one, other = (Hash(Secret(name, KEYS.__getitem__)) for name in ("people", "others"))
    assert one.of("Ada") != other.of("Ada")
    assert one.of("Ada") == Hash(Secret("k", lambda _: KEYS["people"].strip())).of("Ada")
    tokens = [Tokenize(Secret(name, KEYS.__getitem__)) for name in ("people", "others")]
    for token in (tokens[1].of("Ada"), tokens[0].of("Ada")[2:], "Ada", "é", ""):
        with pytest.raises(ValueError, match="expected a token"):
            tokens[0].revealed(token)


@given(st.text(min_size=1))
@settings(max_examples=50, deadline=None)
def test_a_token_is_its_value_again(text: str) -> None:
    tokenize = Tokenize(Secret("people", KEYS.__getitem__))
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert tokenize.revealed(tokenize.of(text)) == text
        assert tokenize.of(text) == tokenize.of(text)


def test_without_its_key_nothing_is_checked_at_all() -> None:
    spec = pipeline_of(PERSONAL.replace("people", "short"))
    for keys in (KEYS.__getitem__, None):
        without = RecordChecker(spec.stream, keys) if keys else RecordChecker(spec.stream)
        with pytest.raises(KeyMissing):
            checked(record(), of=without)
    # A mask needs none, and neither does looking at the columns.
    assert checked(of=RecordChecker(spec.stream)).batch.num_rows == 0
    masks = RecordChecker(pipeline_of("personal: {fields: {note: mask}}").stream)
    assert checked(record(), of=masks).batch.column("note").to_pylist() == ["ring [phone]"]


FAULTY = [
    record(state="ada@example.org"),
    record(minutes=None),
    record(customer=["Ada"]),
    record(call=7.5),
    b'{"note": "ada@example.org", "note": 7}',
    b"ada@example.org",
    None,
]


def test_a_rejection_tells_nothing_of_the_record() -> None:
    done = checked(*FAULTY)
    assert [each.position for each in done.rejected] == list(range(len(FAULTY)))
    assert {each.rule for each in done.rejected} == {"type", "missing", "json"}
    assert done.rejected[0].reason == "state: expected a value of type int64, got what is withheld"
    assert not any(word in each.reason for each in done.rejected for word in ("ada", "Ada", "7.5"))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("x: element 3: expected 0 to 10, got 40.5", "x: element 3: expected 0 to 10, got what is withheld"),
        ("expected at most 5 bytes, got 7, got 8", "expected at most 5 bytes, got what is withheld"),
        ("x: no such value 'ada', got another", "x: type; the rest is withheld"),
        ("ada@example.org: expected a number, got none", "x: type; the rest is withheld"),
        ("x: expected 'ada', got eve", "x: type; the rest is withheld"),
        ("Conversion Error: ada", "x: type; the rest is withheld"),
    ],
)
def test_of_a_reason_in_another_form_only_the_rule_is_left(reason: str, told: str) -> None:
    assert withheld(reason, "type", "x") == told


def test_a_letter_holds_what_is_sound_as_it_would_be_stored() -> None:
    told = checker()
    stored = checked(record()).batch.to_pylist()[0]
    sound = {name: stored[name] for name in ("call", "customer", "note", "minutes", "state")}
    letters = [told.letter(value) for value in FAULTY]
    assert [None if letter is None else set(sound) - json.loads(letter).keys() for letter in letters] == [
        {"state"},
        {"minutes"},
        {"customer"},
        {"call"},
        None,
        None,
        None,
    ]
    assert json.loads(letters[0] or b"").items() <= sound.items()
    number = json.loads(told.letter(record(call=7, note=None, other="x")) or b"")
    assert number["call"] == json.loads(told.letter(record(call="7")) or b"")["call"]
    assert number["note"] is None
    assert "other" not in number
    # Values that stand a field further on are personal where no treatment is.
    of = checker("personal: {key: people, fields: {call: hash}}")
    shifted = record(customer="c-2", note="ada@example.org, ring", minutes="x", state=4111111111111111)
    letter = json.loads(of.letter(shifted) or b"")
    assert (letter["customer"], letter["note"], letter.keys()) == ("c-2", "[email], ring", {"call", "customer", "note"})
    assert json.loads(of.letter(record(minutes=None)) or b"")["state"] == 1


@pytest.mark.parametrize(
    ("personal", "problem"),
    [
        ("{fields: {}}", "stream.personal.fields: Dictionary should have at least 1 item"),
        ("{fields: {note: hide}}", "stream.personal.fields.note: expected"),
        ("{fields: {note: drop}}", "fields.note: expected a field that is not in the schema"),
        ("{fields: {nota: mask}}", "fields.nota: unknown field 'nota'; expected one of"),
        ("{fields: {minutes: mask}}", "fields.minutes: expected a field of type string, got 'minutes' of type float32"),
        ("{fields: {customer: mask}}", "fields.customer: expected a text that does not identify"),
        ("{key: people, fields: {note: hash}}", "fields.note: expected an id or a group"),
        ("{key: people, fields: {state: tokenize}}", "fields.state: expected an id or a group"),
        ("{fields: {customer: hash}}", "stream.personal: expected a key, the name of what 'customer' is treated with"),
        ("{key: people, fields: {note: mask}}", "stream.personal.key: expected none where nothing is hashed"),
        ("{key: ../people, fields: {customer: hash}}", "stream.personal.key: expected a DNS label"),
    ],
)
def test_what_makes_no_sense_is_told(personal: str, problem: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        pipeline_of(f"personal: {personal}")
    assert problem in str(caught.value)


def test_a_text_is_masked_in_one_place() -> None:
    twice = (DOCUMENT % PERSONAL).replace("missing: keep", "missing: keep, personal: {fields: [note], card: reject}")
    with pytest.raises(SpecInvalid, match=r"clean.personal.fields\[0\]: expected a field that stream.personal does"):
        load_pipeline(twice)


def test_specs_without_it_keep_their_digests() -> None:
    plain, said = pipeline_of(""), pipeline_of()
    assert b"personal" not in plain.canonical_json()
    assert plain.digest != said.digest
    assert plain.preparation != said.preparation
    assert parse_canonical(said.canonical_json()) == said


def test_history_is_treated_as_records_are() -> None:
    spec, store = pipeline_of(), MemoryStore()
    lines = b"\n".join([record(), record(call="c-2", minutes="Ada"), record(call="c-3")])
    done = Backfill(spec, store, History(pipeline="calls"), spec.stream, 2e9, keys=KEYS.__getitem__)
    source = done.source("old.jsonl", "sha256:" + "ab" * 32)
    nowhere = Provenance(cluster_id="c", topic="calls", topic_id="", sources=(), clean_ranges=(), rejected={})
    done.take(source, rows_of_file(io.BytesIO(lines), "jsonl", spec.stream), nowhere)
    (entry,) = done.history.entries
    manifest = SegmentManifest.from_json(store.get(entry.manifest))
    assert manifest.provenance.masked == {"phone": 2}
    (part,) = manifest.parts
    rows = read_part(part, spec.stream.fields, store).to_pylist()
    assert [row["customer"] for row in rows] == checked(record(), record()).batch["customer"].to_pylist()
    (refused,) = done.refused
    assert refused.withheld == len(record(call="c-2", minutes="Ada"))
    assert json.loads(refused.value or b"").keys() == {"call", "customer", "note", "state"}
    assert done.faults == ["old.jsonl row 1: minutes: expected a value of type float32, got what is withheld"]


def test_treatments_of_the_spec_are_those_of_the_table() -> None:
    assert {*TREATMENTS, "drop"} == set(Treatment.__args__)  # type: ignore[attr-defined]


def test_what_a_select_makes_is_treated_and_what_it_read_is_told_to_nobody() -> None:
    made = "payload.who AS customer, call, note, TRY_CAST(m AS FLOAT) AS minutes, CAST(state AS BIGINT) + 1 AS state"
    select = f'select: "{made}"'
    of = RecordChecker(pipeline_of(f"{PERSONAL}\n  {select}").stream, KEYS.__getitem__)
    plain = {"payload": {"who": "Ada"}, "call": "c-1", "note": "ada@example.org", "m": "3.5", "state": 1}
    done = checked(json.dumps(plain).encode(), of=of)
    (row,) = done.batch.to_pylist()
    assert (row["note"], row["minutes"], row["state"]) == ("[email]", 3.5, 2)
    assert row["customer"] == checked(record(customer="Ada")).batch["customer"][0].as_py()
    assert checked(json.dumps(plain | {"m": "ada"}).encode(), of=of).unread == {"minutes": 1}
    faulty = json.dumps(plain | {"state": "ada@example.org", "customer": "Ada"}).encode()
    (rejection,) = checked(faulty, of=of).rejected
    letter = of.letter(faulty)
    assert "ada" not in f"{rejection.reason} {letter!r}".lower()
