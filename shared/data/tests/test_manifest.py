"""Whatever bytes are read as a manifest: it is one, or the error says that it is none."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from headrace_data.canonical import canonical, sha256_digest
from headrace_data.errors import ManifestInvalid
from headrace_data.manifest import Manifest
from headrace_data.spec import Pipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DIGEST = "sha256:" + "0" * 64

ODD: list[Any] = [None, True, [], {}, [[]], "", "\x00", -1, 2**70, 1e308, [{"a": []}], {"encode": []}, "sha256:"]
VALUES = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def document(mixed: Pipeline) -> dict[str, Any]:
    """A manifest with a number and a category, as plain values."""
    fields = [field.plain() for field in mixed.stream.fields]
    features = [field for field in mixed.stream.fields if field.role == "feature"]
    number = {"kind": "standard", "shape": [1], "offset": [0.0], "scale": [1.0], "fill": [0.5]}
    category = {"encode": "onehot", "categories": ["a", "b"]}
    part = {"uri": "memory://1", "digest": DIGEST, "size_bytes": 9, "rows": 3, "partition": 0}
    split = {"rows": 3, "parts": [{**part, "first_offset": 0, "last_offset": 2}]}
    ranges = [{"partition": 0, "start": 0, "end": 3}]
    return {
        "dataset_id": DIGEST,
        "pipeline": mixed.name,
        "spec_digest": DIGEST,
        "schema_digest": sha256_digest(canonical(fields)),
        "prepare_digest": DIGEST,
        "split_digest": DIGEST,
        "fields": fields,
        "splits": {"train": split, "validation": split, "test": split},
        "classes": ["no", "yes"],
        "transforms": [{"name": each.name, **(category if each.type == "string" else number)} for each in features],
        "provenance": {
            "cluster_id": "c",
            "topic": "t",
            "topic_id": "",
            "sources": ranges,
            "clean_ranges": ranges,
            "rejected": {"range": 1},
        },
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inside for found in places(each, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], by)
    return copy


def read(data: bytes) -> None:
    with suppress(ManifestInvalid):
        manifest = Manifest.from_json(data)
        # What it is asked for first is there.
        assert manifest.label.role == "label"
        assert all(manifest.transforms[field.name] for field in manifest.features)


def test_the_document_is_a_manifest(document: dict[str, Any]) -> None:
    assert json.loads(Manifest.from_json(json.dumps(document).encode()).to_json()) == document


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), by=VALUES)
def test_any_value_in_the_place_of_any_other(document: dict[str, Any], data: st.DataObject, by: Any) -> None:
    path = data.draw(st.sampled_from(places(document)))
    read(json.dumps(replaced(document, path, by)).encode())


def test_odd_values_in_every_place(document: dict[str, Any]) -> None:
    for path in places(document):
        for odd in ODD:
            read(json.dumps(replaced(document, path, odd)).encode())


def test_any_byte_changed_and_any_cut(document: dict[str, Any]) -> None:
    whole = json.dumps(document).encode()
    for place in range(0, len(whole), 3):
        read(whole[:place])
        read(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])


@given(st.binary(max_size=64) | st.sampled_from([b"", b"[" * 10_000, b'{"a":' * 10_000, b"\xff", b"NaN"]))
def test_any_bytes(data: bytes) -> None:
    read(data)
