"""Personal data in a sample: a draft names it by field, proposes what becomes of it, and does not repeat it."""

from __future__ import annotations

import json
from typing import Any

from headrace_client.drafting import draft_pipeline
from headrace_data.spec import load_pipeline


def encoded(records: list[Any]) -> list[bytes | None]:
    return [json.dumps(record).encode() for record in records]


RECORDS = [
    {
        "call": f"ada{number}@example.org",
        "agent": ("tom@example.org", "eve@example.org")[number % 2],
        "device_id": str(4111_1111_1111_1111 + number % 20),
        "text": f"ring +44 20 7946 09{number:02} about {number}",
        "minutes": number,
        "state": ("open", "closed")[number % 3 % 2],
    }
    for number in range(40)
]


def test_what_is_found_is_named_with_a_proposal_that_can_be_applied() -> None:
    text = draft_pipeline("calls", encoded(RECORDS)).text
    assert "  #   call: email 40" in text
    assert "  #   agent: email 40" in text
    assert "  #   text: phone 40" in text
    assert "  # personal: {key: people, fields: {call: hash, agent: mask, text: drop}}" in text
    # One number in ten has a check digit: a name of something that is mostly none is not said to be one.
    assert "device_id: card" not in text
    assert "@example.org" not in text
    assert "[email] 20" in text
    pipeline = load_pipeline(text.replace("  # personal:", "  personal:"))
    assert pipeline.stream.personal is not None
    assert pipeline.stream.personal.fields == {"call": "hash", "agent": "mask", "text": "drop"}


def test_numbers_of_cards_are_found_and_not_learned_from() -> None:
    cards = [4111111111111111, 5555555555554444, 378282246310005]
    records = [{**each, "card": cards[n % 3], "amount": 10**15 + n} for n, each in enumerate(RECORDS)]
    text = draft_pipeline("calls", encoded(records)).text
    assert "left out: card: numbers that are personal (card), nothing to learn from" in text
    assert "text: drop, card: drop}}" in text
    assert "{name: amount, type: int64, role: feature}" in text


def test_the_command_notes_it(headrace, monkeypatch) -> None:
    monkeypatch.setattr("headrace_client.sampling.newest_records", lambda topic, sample: encoded(RECORDS))
    noted = headrace("init", "--topic", "calls").stderr
    assert "personal data in 'call': email 40; stream.personal may hash it" in noted
    assert "personal data in 'text': phone 40; stream.personal may drop it" in noted


def test_a_sample_without_any_says_nothing_of_it() -> None:
    records = encoded([{"id": f"r{number}", "x": number, "kind": "ab"[number % 2]} for number in range(40)])
    assert "personal" not in draft_pipeline("t", records).text.lower()
