"""Texts of answers: whole characters, up to a stop text, however the tokens divide them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from headrace_engines.answers import AnswerText
from headrace_engines.errors import Unanswerable
from headrace_engines.schemas import followed
from hypothesis import given
from hypothesis import strategies as st


@given(st.text(alphabet="abé🎉\n", max_size=20), st.lists(st.text(alphabet="abé", min_size=1, max_size=3), max_size=3))
def test_pieces_are_whole_characters_and_end_before_the_first_stop_text(text: str, stop: list[str]) -> None:
    answer = AnswerText(stop)
    pieces = [answer.add(bytes([byte])) for byte in text.encode()]
    said = "".join([*pieces, answer.add(b"", True)])
    ends = [place for each in stop if (place := text.find(each)) >= 0]
    assert "�" not in said
    if answer.is_stopped:
        assert any(text.startswith(said + each) for each in stop)
        assert all(each not in said for each in stop)
    else:
        assert said == text
        assert not ends


def test_what_is_no_character_is_told_at_the_end() -> None:
    answer = AnswerText(())
    assert answer.add("é".encode()[:1]) == ""
    assert answer.add(b"", True) == "�"


SCHEMA = {
    "title": "a mill",
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "kind": {"enum": ["water", "wind", 3, None]},
        "wheels": {"type": "array", "items": {"$ref": "#/$defs/wheel"}, "maxItems": 4},
        "built": {"type": ["integer", "null"], "minimum": 1, "maximum": 2000},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"wheel": {"anyOf": [{"type": "number"}, {"const": "lost"}], "description": "metres"}},
}


def test_of_a_schema_the_form_of_an_answer_is_told() -> None:
    found = json.loads(followed(json.dumps(SCHEMA)))
    assert found["properties"]["wheels"]["items"] == {"anyOf": [{"type": "number"}, {"const": "lost"}]}
    assert "title" not in found
    assert "$defs" not in found


DEEP: dict[str, Any] = {}
for _ in range(20):
    DEEP = {"type": "array", "items": DEEP}


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ("[1]", "expected an object"),
        ("{", "expected JSON"),
        ("[" * 16_000, "expected JSON"),
        ('"' + "a" * 20_000 + '"', "at most 16384 characters"),
        (DEEP, "16 deep"),
        ({"type": "object", "properties": {str(number): {} for number in range(300)}}, "256 parts"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "16 deep"),
        ({"$ref": "#/$defs/none"}, "a place in the same schema"),
        ({"$ref": "https://example.org"}, "a place in the same schema"),
        ({"type": "string", "pattern": "(a+)+$"}, "pattern"),
        ({"type": "string", "maxLength": 1_000}, "maxLength"),
        ({"anyOf": [{"type": "string", "maxLength": 60}] * 3}, "lengths of 128"),
        ({"type": "array", "items": {}, "minItems": 3, "maxItems": 2}, "minItems"),
        ({"minimum": float("nan")}, "minimum"),
        ({"type": "object", "required": ["a"]}, "required"),
        ({"type": "text"}, "type"),
        ({"minimum": 1}, "type integer or number beside it"),
        ({"type": "integer", "minimum": 1.5}, "whole numbers"),
        ({"type": "array", "minItems": 1}, "expected items"),
        ({"type": "object", "properties": {'a"': {}}}, "names of letters"),
        ({"enum": []}, "enum"),
        ({"enum": ["a\x00"]}, "printable"),
        ({"anyOf": []}, "anyOf"),
        ({"not": {}}, "not"),
    ],
)
def test_a_schema_that_takes_long_or_cannot_be_followed_is_refused_with_its_place(schema: Any, named: str) -> None:
    with pytest.raises(Unanswerable, match=named):
        followed(schema if isinstance(schema, str) else json.dumps(schema))
