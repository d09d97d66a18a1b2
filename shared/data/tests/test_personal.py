"""Personal data in texts: what is found, what is left, and what hostile texts cost."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from headrace_data.cleaning import clean
from headrace_data.detectors import PERSONAL, masked_text
from headrace_data.personal import masked
from headrace_data.records import RecordChecker
from headrace_data.seen_keys import SeenKeys
from headrace_data.spec import Personal, Pipeline, SpecInvalid, load_pipeline, parse_canonical
from headrace_data.spec.texts import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st

PIECES = [
    *("a.b@example.org", "x@y.de", "4111 1111 1111 1111", "4111-1111-1111-1112", "DE89 3704 0044 0532 0130 00", "+1"),
    *("GB82WEST12345698765432", "1.2.3.4", "fe80::1", "::ffff:1.2.3.4", "+44 20 7946 0958", "(030) 901820"),
    *("01.02.2024", "212-555-0123", "[email]", "12:30:45", " ", "\n", "-", ".", ":", "@", "(", "+", "0", "7", "a"),
    *("é", "_", ", ", "\uff11", "AKIA0123456789ABCDEF", f"ghp_{'a1' * 18}", "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)
DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: asked}
stream:
  topic: asked
  schema:
    - {name: id, type: string, role: id}
    - {name: question, type: string, role: feature, nullable: true}
    - {name: answer, type: string, role: label}
prepare:
  clean: {missing: keep, personal: %s}
  transform: {question: {impute: {constant: "?"}, encode: text}}
train: {task: generation, network: {kind: causal-lm, digest: "sha256:%s", sizeBytes: 7}}
"""


def pipeline_of(personal: str) -> Pipeline:
    return load_pipeline(DOCUMENT % (personal, "ab" * 32))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("write to a.b+c@mail.example.org.", "write to [email]."),
        ("<o-b@x.co.uk>, Müller@example.de", "<[email]>, [email]"),
        ("a@b, @you, 5 @ 3.20", "a@b, @you, 5 @ 3.20"),
        ("DE89 3704 0044 0532 0130 00 is mine; gb82west12345698765432", "[iban] is mine; [iban]"),
        ("GB82 WEST 1234 5698 7654 33, DE8937040044", None),
        ("4111 1111 1111 1111, 5500-0000-0000-0004 378282246310005", "[card], [card] [card]"),
        ("4111 1111 1111 1112, 12345678901234567890123", "4111 1111 1111 1112, 12345678901234567890123"),
        ("10.0.0.1:80 and fe80::1: but 12:30:45 or 999.1.1.1", "[ip]:80 and [ip]: but 12:30:45 or 999.1.1.1"),
        ("std::vector, a::b, 2001:db8::8a2e:370:7334.", "std::vector, a::b, [ip]."),
        ("+44 20 7946 0958, (030) 901820, 030/901820-12", "[phone], [phone], [phone]"),
        ("(212) 555-0123 or 1 212-555-0123; 01 23 45 67 89", "[phone] or [phone]; [phone]"),
        ("on 01.02.2024 for 0.12345678 of 1,234,567.89, no 123456789", None),
        ("+49 30 1234567 4111111111111111", "[phone] [card]"),
        ("key AKIA0123456789ABCDEF, AKIA0123456789ABCDEFG", "key [secret], AKIA0123456789ABCDEFG"),
        (f"ghp_{'a1' * 18} (sk-{'Ab3_' * 8}9) sk-learn", "[secret] ([secret]) sk-learn"),
        ("Bearer eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl; eyJhbGciOiJI.e", "Bearer [secret]; eyJhbGciOiJI.e"),
    ],
)
def test_what_has_the_form_is_masked_and_nothing_else(text: str, left: str | None) -> None:
    assert masked_text(text, PERSONAL) == (text if left is None else left)
    assert masked_text(text, ()) == text


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sets(st.sampled_from(KINDS)))
def test_a_masked_text_stays_as_it_is_and_is_hardly_longer(text: str, kinds: set[str]) -> None:
    once = masked_text(text, kinds)

    assert masked_text(once, kinds) == once
    assert len(once) <= len(text) * 7 / 6


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS | st.none(), max_size=6))
def test_columns_are_masked_as_their_texts_are(texts: list[str | None]) -> None:
    policy = Personal.model_validate({"fields": ("a", "gone"), **dict.fromkeys(KINDS, "mask")})
    batch = pa.record_batch({"a": pa.array(texts, pa.string()), "b": pa.array(texts, pa.string())})

    found, counts = masked(batch, policy)

    assert found["a"].to_pylist() == [None if text is None else masked_text(text, KINDS) for text in texts]
    assert found["b"].to_pylist() == texts
    assert bool(counts) == (found != batch)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from(KINDS))
def test_every_text_with_one_in_it_has_the_hint(text: str, kind: str) -> None:
    if next(PERSONAL[kind].spans(text), None):
        assert pc.match_substring_regex(pa.array([text]), PERSONAL[kind].hint)[0].as_py()


@pytest.mark.parametrize(
    "piece",
    [
        "a-",
        "a@",
        "a.a@a.",
        "4444 ",
        "+1",
        "0 1",
        "1.2.3.",
        "a:",
        "AB12 ",
        "(0",
        "a@a.",
        "1 ",
        "eyJ-",
        "eyJaaaaaaaa.",
        "sk-",
    ],
)
def test_hostile_texts_take_time_by_their_length_alone(piece: str) -> None:
    def cpu_s(size: int) -> float:
        text = piece * (size // len(piece))
        began = time.thread_time()
        masked_text(text, PERSONAL)
        return time.thread_time() - began

    # 16 times the length: 16 times the time, and 256 times where it grew with the square.
    assert cpu_s(32_000) < 80 * max(min(cpu_s(2_000) for _ in range(3)), 1e-4)


def rows(pipeline: Pipeline, *records: tuple[str | None, str]) -> pa.RecordBatch:
    values = [
        json.dumps({"id": str(place), "question": question, "answer": answer}).encode()
        for place, (question, answer) in enumerate(records)
    ]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    assert checked.rejected == []
    return checked.batch


def test_cleaning_masks_and_rejects_as_the_pipeline_says() -> None:
    pipeline = pipeline_of("{fields: [question, answer], email: mask, phone: mask, card: reject}")
    batch = rows(
        pipeline,
        ("who is a@example.org?", "a@example.org is A, b@example.org is B"),
        ("pay", "with 4111 1111 1111 1111"),
        (None, "call +44 20 7946 0958 from 10.0.0.1"),
    )

    cleaned = clean(batch, pipeline, SeenKeys(10))

    assert cleaned.batch["question"].to_pylist() == ["who is [email]?", None]
    assert cleaned.batch["answer"].to_pylist() == ["[email] is A, [email] is B", "call [phone] from 10.0.0.1"]
    assert cleaned.batch.schema == batch.schema
    assert (cleaned.masked, cleaned.counts) == ({"email": 3, "phone": 1}, {"personal": 1})
    (fault,) = cleaned.dropped
    assert (fault.position, fault.rule, fault.field) == (1, "personal", "answer")
    assert fault.reason == "answer: expected no personal data of kind card, got some"


def test_a_policy_is_in_the_digests_of_those_alone_who_have_one() -> None:
    plain = load_pipeline((DOCUMENT % ("{}", "ab" * 32)).replace(", personal: {}", ""))
    assert "personal" not in plain.canonical_json().decode()
    pipeline = pipeline_of("{fields: [answer], email: mask}")
    assert parse_canonical(pipeline.canonical_json()) == pipeline
    assert pipeline.prepare_digest != plain.prepare_digest
    assert (pipeline.schema_digest, pipeline.split_digest) == (plain.schema_digest, plain.split_digest)
    assert tuple(PERSONAL) == KINDS


def test_a_policy_is_looser_where_it_spares_what_another_one_does_not() -> None:
    policy = Personal(fields=("a",), email="mask", card="reject")
    for other in (policy, Personal(fields=("a", "b"), email="reject", card="reject", ip="mask")):
        assert not policy.goes_beyond(other)
    for sparing in (None, Personal(fields=("b",), email="mask", card="reject"), Personal(fields=("a",), card="reject")):
        assert policy.goes_beyond(sparing)
    assert policy.goes_beyond(Personal(fields=("a",), email="mask", card="mask"))


@pytest.mark.parametrize(
    ("personal", "told"),
    [
        ("{fields: [id], email: mask}", "prepare.clean.personal.fields[0]: expected a text that does not identify"),
        (
            "{fields: [answers], email: mask}",
            "prepare.clean.personal.fields[0]: unknown field 'answers'; expected one of",
        ),
        ("{fields: [answer]}", "prepare.clean.personal: expected a kind to mask or reject, got none of email, iban"),
        ("{fields: [], email: mask}", "prepare.clean.personal.fields"),
        ("{fields: [answer], email: drop}", "prepare.clean.personal.email"),
    ],
)
def test_a_policy_that_cannot_hold_is_refused(personal: str, told: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        pipeline_of(personal)
    assert told in str(refused.value)
