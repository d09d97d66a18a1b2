"""Columns hold what each value alone would make, whatever stands beside it, and refuse nothing else."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import numpy as np
import orjson
import pyarrow as pa
import pytest
from headrace_data.columns import LARGEST_FLOAT64, Column, column_for
from headrace_data.spec import Field
from headrace_data.spec.scalars import ElementType
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

NUMERIC = [name for name in get_args(ElementType) if name != "string"]
SHAPES = [(), (1,), (4,), (2, 2), (2, 4), (4, 1), (1, 1), (2, 1, 2)]

WHOLE = [0, 1, -1, 127, 128, 255, 256, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**70]
NEGATIVE = [-128, -129, -(2**63), -(2**63) - 1]
BROKEN = [-0.0, 0.5, 1e-46, 5e-324, 3.4028235e38, 3.4028236e38, 1e39, 1.7976931348623157e308]

edges = st.sampled_from([*WHOLE, *NEGATIVE, *BROKEN])
small = st.integers(0, 17)
hostile = st.none() | st.booleans() | edges | st.text(max_size=4) | st.sampled_from(["1", "", "abcd"])
elements = st.one_of(small, small, edges, st.floats(allow_nan=False, allow_infinity=False), hostile)


def nested(leaves: st.SearchStrategy[Any], shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    for dimension in reversed(shape):
        leaves = st.lists(leaves, min_size=dimension, max_size=dimension)
    return leaves


def values_of(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Return values of the shape mostly, of whole numbers mostly, and everything that is none."""
    size = int(np.prod(shape))
    sound = st.sampled_from([small, edges, small | st.floats(-1e3, 1e3), st.booleans(), elements])
    wild = st.recursive(
        elements, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    )
    return st.one_of(
        sound.flatmap(lambda leaves: nested(leaves, shape)),
        sound.flatmap(lambda leaves: st.lists(leaves, min_size=size, max_size=size)),
        st.lists(st.lists(small, min_size=shape[-1] if shape else 1, max_size=4), max_size=8),
        st.dictionaries(st.text(min_size=2, max_size=2), elements, min_size=2, max_size=2),
        wild,
    )


def alone(value: Any, field: Field) -> bytes | None:
    """Return the bytes that a value is in a column, None when it is none: by one plain rule after another."""
    flat = _elements(value, field.shape) if field.shape else [value]
    if flat is None:
        return None
    made = [_element(element, field) for element in flat]
    return None if None in made else b"".join(part for part in made if part is not None)


def _elements(value: Any, shape: tuple[int, ...]) -> list[Any] | None:
    if not isinstance(value, list):
        return None
    if len(value) == int(np.prod(shape)) and not any(isinstance(element, list) for element in value):
        return value
    if len(value) != shape[0]:
        return None
    if len(shape) == 1:
        return value
    parts = [_elements_exactly(part, shape[1:]) for part in value]
    return None if None in parts else list(itertools.chain.from_iterable(part for part in parts if part))


def _elements_exactly(value: Any, shape: tuple[int, ...]) -> list[Any] | None:
    if not shape:
        return [value]
    if not isinstance(value, list) or len(value) != shape[0]:
        return None
    parts = [_elements_exactly(part, shape[1:]) for part in value]
    return None if None in parts else list(itertools.chain.from_iterable(part for part in parts if part))


def _element(element: Any, field: Field) -> bytes | None:
    if field.type == "bool":
        return bytes([element]) if type(element) is bool else None
    if field.dtype.kind == "f":
        if type(element) not in (int, float):
            return None
        if field.type == "float64" and abs(element) > LARGEST_FLOAT64:
            return None
        with np.errstate(over="ignore"):
            number = np.float64(element).astype(field.dtype)
        return number.tobytes() if number and np.isfinite(number) else None if number else field.dtype.type(0).tobytes()
    limits = np.iinfo(field.type)
    fits = type(element) is int and limits.min <= element <= limits.max
    return field.dtype.type(element).tobytes() if fits else None


def read(column: Column, values: list[Any], *, booleans: bool = True) -> list[Any]:
    """Read values as a checker does: halve what is refused until single values are left, and leave those out."""
    piece = column.read(values, booleans=booleans)
    if piece is not None:
        return [piece]
    if len(values) == 1:
        assert column.fault(values[0]) is not None
        return []
    half = len(values) // 2
    return read(column, values[:half], booleans=booleans) + read(column, values[half:], booleans=booleans)


def bytes_of(array: pa.Array, field: Field) -> bytes:
    flat = array.values if field.shape else array
    return bytes(flat.to_numpy(zero_copy_only=False).tobytes())


@pytest.mark.parametrize("element", NUMERIC)
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_column_is_made_of_its_values_alone(element: str, given_: st.DataObject) -> None:
    shape = given_.draw(st.sampled_from(SHAPES))
    field = Field.model_validate({"name": "x", "type": element, "shape": shape, "role": "feature"})
    drawn = given_.draw(st.lists(values_of(shape), min_size=1, max_size=6))
    texts = list(map(_json, drawn))
    values = list(map(orjson.loads, texts))
    booleans = any(b"true" in text or b"false" in text for text in texts)
    column = column_for(field)

    built = column.build(read(column, values, booleans=booleans))

    assert column.build(read(column, values)) == built
    expected = [made for value in values if value is not None and (made := alone(value, field)) is not None]
    assert len(built) == len(expected)
    assert bytes_of(built, field) == b"".join(expected)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # a whole number of more than 64 bits
        return orjson.dumps(float(2**70))


@pytest.mark.parametrize(("element", "refused"), [("int8", 2), ("uint8", 0), ("int16", 0), ("float32", 0)])
def test_numbers_of_a_byte_do_not_wrap_around(element: str, refused: int) -> None:
    field = Field.model_validate({"name": "x", "type": element, "role": "feature"})
    column = column_for(field)
    values = [0, 127, 128, 255]

    found = column.build(read(column, list(values)))

    assert found.to_pylist() == values[: 4 - refused]


@pytest.mark.parametrize("value", [[[1] * 4] * 8, [[1, 2]] * 8, ["abcd"] * 2, [{"a": 1, "b": 2, "c": 3, "d": 4}] * 2])
def test_what_only_looks_like_the_shape_is_refused(value: list[Any]) -> None:
    field = Field.model_validate({"name": "x", "type": "float32", "shape": (2, 4), "role": "feature"})
    column = column_for(field)

    assert column.read([value]) is None
    assert column.fault(value) is not None
