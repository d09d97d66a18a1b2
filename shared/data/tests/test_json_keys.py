"""Keys that stand twice in one JSON object: none is overlooked, and nothing else is taken for one."""

from __future__ import annotations

import json
import sys
from typing import Any

import orjson
import pytest
from headrace_data.json_keys import repeated_key, repeated_keys
from headrace_data.records import RecordChecker
from headrace_data.spec import load_pipeline
from hypothesis import given, settings
from hypothesis import strategies as st

STREAM = load_pipeline("""
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: keys}
stream:
  topic: keys
  schema:
    - {name: id, type: string, role: id}
    - {name: f, type: float32, role: feature}
    - {name: pair, type: float32, shape: [2], role: feature, nullable: true}
    - {name: label, type: string, role: label}
prepare: {transform: {pair: {impute: mean}}}
train: {network: {kind: mlp}}
""").stream
SOUND = b'{"id": "0", "f": 1, "label": "x"}'


def rejected(*records: bytes) -> list[tuple[int, str, str, str]]:
    checked = RecordChecker(STREAM).check(records, [0] * len(records), range(len(records)))
    return [(each.position, each.rule, each.field, each.reason) for each in checked.rejected]


@pytest.mark.parametrize(
    ("record", "key", "field"),
    [
        (b'{"id": "1", "f": 1, "f": 2, "label": "x"}', '"f"', "f"),
        (b'{"id": "1", "f": 1, "f": 1, "label": "x"}', '"f"', "f"),
        (b'{"id": "2", "f": 1, "\\u0066": 3, "label": "x"}', '"f"', "f"),
        (b'{"id": "2", "f" : 1, "f"\t\r\n: 3, "label": "x"}', '"f"', "f"),
        (b'{"id":"3","f":1,"label":"x","at":"12:00:00","at":"12:00:01"}', '"at"', ""),
        (b'{"id":"4","f":1,"label":"x","m":{"a":1,"b":{"c":1,"c":2}}}', '"c"', ""),
        (b'{"id":"5","f":1,"label":"x","m":[[{"a":1}],{"a":1,"a":2}]}', '"a"', ""),
        (b'{"id":"6","f":1,"label":"x","":1,"":2}', '""', ""),
        (b'{"id":"7","f":1,"label":"\\":\\":","f":2}', '"f"', "f"),
        (b'{"id":"8","f":1,"label":":\\\\","f":2}', '"f"', "f"),
        (b'{"id":"9","f":1,"label":"x","a\\\\":1,"a\\\\":2}', '"a\\\\"', ""),
    ],
)
def test_a_record_with_a_key_twice_is_rejected_by_name(record: bytes, key: str, field: str) -> None:
    told = f"expected each key of an object once, got {key} more than once"
    assert rejected(SOUND, record, SOUND) == [(1, "json", field, told)]


@pytest.mark.parametrize(
    "record",
    [
        b'{"id":"1","f":1,"label":"x","at":"2026-01-01T00:00:00+02:00"}',
        b'{"id":"2","f":1,"label":"f\\": 1, \\"f"}',
        b'{"id":"3","f":1,"label":"x","m":{"f":1},"n":[{"f":1},{"f":2}]}',
        b'{"id" : "4", "f" : 1, "label" : ":", "url":"http://a:1/b : c"}',
        b'{"id":"5","f":1,"label":"\\\\","k\\\\":"\\\\\\":"}',
        b'{"id":"6","f":1,"F":2,"label":"x"," f":3}',
        b'{"id":"7","f":1,"label":"x","pair":[1,2],"n":0.' + b"9" * 5000 + b',"at":":"}',
    ],
)
def test_colons_quotes_and_equal_keys_of_other_objects_are_none(record: bytes) -> None:
    assert rejected(SOUND, record, SOUND) == []


def test_what_is_nested_almost_too_deep_to_decode_is_rejected() -> None:
    deep = b'{"id":"1","f":1,"label":":","m":' + b'{"a":' * 1000 + b'"::"' + b"}" * 1000 + b', "f":1}'
    ((position, rule, field, reason),) = rejected(SOUND, deep, SOUND)
    # Python 3.11 looks no deeper than its functions may call each other; later ones do.
    looks = sys.version_info >= (3, 12)
    assert (position, rule, field) == (1, "json", "f" if looks else "")
    got = '"f" more than once' if looks else "objects nested too deep to look"
    assert reason == f"expected each key of an object once, got {got}"


KEYS = st.sampled_from(["a", "b", "f", ":", '"', '":', "\\", " ", "é", ""])
TEXTS = st.sampled_from(["", ":", '":', '":"', "\\", '\\":', " : ", "12:00", "a"])
PAIRS = st.recursive(
    st.one_of(TEXTS, st.integers(-5, 5), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(st.tuples(KEYS, inner), max_size=4).map(lambda pairs: ("object", pairs))
    ),
    max_leaves=8,
)
OBJECTS = st.lists(st.tuples(KEYS, PAIRS), max_size=4).map(lambda pairs: ("object", pairs))


def written(value: Any, blank: str) -> str:
    """Write a value as JSON, an object's pairs as they are."""
    if isinstance(value, list):
        return "[" + ",".join(written(one, blank) for one in value) + "]"
    if isinstance(value, tuple):
        pairs = (f"{json.dumps(key)}{blank}:{blank}{written(one, blank)}" for key, one in value[1])
        return "{" + ",".join(pairs) + "}"
    return json.dumps(value)


def repeats(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(repeats, value))
    if not isinstance(value, tuple):
        return False
    keys = [key for key, _ in value[1]]
    return len(set(keys)) < len(keys) or any(repeats(one) for _, one in value[1])


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(OBJECTS, min_size=1, max_size=5), st.sampled_from(["", " ", "\t\n"]))
def test_exactly_the_objects_with_a_key_twice_are_found(objects: list[Any], blank: str) -> None:
    texts = [written(each, blank).encode() for each in objects]

    found = repeated_keys(texts, [orjson.loads(text) for text in texts])

    assert set(found) == {place for place, each in enumerate(objects) if repeats(each)}
    assert all(repeated_key(texts[place]) == key for place, key in found.items())
