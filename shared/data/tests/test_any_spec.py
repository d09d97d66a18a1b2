"""Whatever a document holds, it is a pipeline, or its problems are told; no other error leaves the reader."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headrace_data.spec import Pipeline, Problem, SpecInvalid, load_pipeline, parse_canonical
from headrace_data.spec.yaml_tree import read_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*/pipeline.yaml"))
EXAMPLE = Path(__file__).parents[3] / "examples" / "digits" / "pipeline.yaml"


def loaded(document: str) -> Pipeline | list[Problem]:
    try:
        return load_pipeline(document)
    except SpecInvalid as invalid:
        return invalid.problems


@settings(deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_document_ends_in_a_pipeline_or_in_problems(document: bytes | str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        load_pipeline(document)
    assert caught.value.problems
    assert all(problem.line >= 1 and problem.message for problem in caught.value.problems)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
PLACES = st.sampled_from(
    [
        "metadata.name",
        "stream",
        "stream.key",
        "stream.time",
        "stream.maxAhead",
        "stream.schema",
        "stream.schema.1",
        "stream.schema.1.range",
        "stream.schema.1.shape",
        "prepare.split",
        "prepare.transform",
        "prepare.freeze",
        "train.network",
        "train.network.kind",
        "compress.variants",
        "serve",
    ]
)


@pytest.mark.slow
@settings(deadline=None)
@given(PLACES, JSON)
def test_any_value_anywhere_ends_in_a_pipeline_or_in_problems(place: str, value: object) -> None:
    document = json.loads(load_pipeline(EXAMPLE.read_bytes()).canonical_json())
    *around, last = place.split(".")
    here = document
    for part in around:
        here = here[int(part)] if isinstance(here, list) else here[part]
    here[int(last) if isinstance(here, list) else last] = value

    outcome = loaded(json.dumps(document, ensure_ascii=False))
    if isinstance(outcome, Pipeline):
        assert parse_canonical(outcome.canonical_json()) == outcome
    else:
        assert outcome


Pairs = list[tuple[str, Any]]
"""A mapping that may have a key twice."""
FRAGMENTS = st.sampled_from(
    [
        *("", "~", "{}", "[]", "[[1]]", "[regression]", "{kind: mlp}", "[{name: x}]", "{a: {b: [c]}}", "off", "true"),
        *("0", "-1", "1e999", ".inf", "1e-400", "0.5", "2147483648", "9" * 30, "1:30", "3s", "-5m"),
        *(
            "''",
            "' '",
            "x",
            "id",
            "label",
            "classification",
            "float64",
            '"\\0"',
            '"\\uD800"',
            '"\\U00110000"',
            "'\u2028'",
        ),
        *("!!str x", "&a x", "*a", "-", "[", "'" + "x" * 300 + "'"),
    ]
) | st.text(max_size=8).map(lambda text: json.dumps(text))


def pairs_of(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, pairs_of(item)) for key, item in value.items()]
    return [("", pairs_of(item)) for item in value] if isinstance(value, list) and value else json.dumps(value)


def text_of(node: Any) -> str:
    if not isinstance(node, list):
        return str(node)
    items = [f"{key and json.dumps(key) + ': '}{text_of(item)}" for key, item in node]
    return f"{{{', '.join(items)}}}" if all(key for key, _ in node) else f"[{', '.join(items)}]"


def spots(node: Any) -> Iterator[tuple[Pairs, int]]:
    if isinstance(node, list):
        for position, (_, item) in enumerate(node):
            yield node, position
            yield from spots(item)


@st.composite
def mutated_examples(draw: st.DrawFn) -> str:
    """Return an example's document with a few of its values replaced, dropped, doubled or under another key."""
    root = pairs_of(read_yaml(draw(st.sampled_from(EXAMPLES)).read_bytes()).value)
    for _ in range(draw(st.integers(1, 3))):
        places = list(spots(root))
        around, position = places[draw(st.integers(0, len(places) - 1))]
        key, item = around[position]
        match draw(st.sampled_from(["replace", "replace", "drop", "double", "rename", "move"])):
            case "replace":
                around[position] = (key, draw(FRAGMENTS))
            case "drop" if len(root) > 1:
                del around[position]
            case "double":
                around.append((key, draw(FRAGMENTS)))
            case "rename" if key:
                around[position] = (draw(st.text(min_size=1, max_size=4)), item)
            case _:
                around[position] = (key, text_of(places[draw(st.integers(0, len(places) - 1))][0]))
    return text_of(root)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(mutated_examples())
def test_whatever_is_done_to_an_example_ends_in_a_pipeline_or_in_problems(document: str) -> None:
    outcome = loaded(document)
    if isinstance(outcome, Pipeline):
        assert parse_canonical(outcome.canonical_json()) == outcome
    else:
        assert outcome
