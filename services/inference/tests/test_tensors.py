from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from headrace_inference.core.tensors import (
    BYTES,
    DATATYPES,
    OutputTensor,
    decode_output,
    decode_raw,
    decode_typed,
    encode_raw,
)
from headrace_runtime.errors import InvalidInput
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

NUMERIC = [datatype for datatype in DATATYPES.values() if datatype is not BYTES]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(st.data(), st.sampled_from(NUMERIC))
def test_numbers_survive_raw_contents(data: st.DataObject, datatype: Any) -> None:
    array = data.draw(arrays.arrays(datatype.dtype, SHAPES))
    again = decode_raw("x", datatype, array.shape, encode_raw(array, datatype))
    assert again.dtype == datatype.dtype
    assert again.tobytes() == array.tobytes()
    assert again.shape == array.shape


@given(st.data(), st.sampled_from([datatype for datatype in NUMERIC if datatype.typed_field]))
def test_typed_contents_mean_the_same_as_raw_ones(data: st.DataObject, datatype: Any) -> None:
    array = data.draw(arrays.arrays(datatype.dtype, SHAPES))
    raw = encode_raw(array, datatype)
    values = decode_output(OutputTensor("x", datatype.name, array.shape, raw))
    typed = [(datatype.typed_field, values)] if values else []
    np.testing.assert_array_equal(decode_typed("x", datatype, array.shape, typed), array)


@given(st.lists(st.text(max_size=10), max_size=6))
def test_strings_survive_raw_contents(texts: list[str]) -> None:
    array = np.array([*texts, None], object)[:-1]
    raw = encode_raw(array, BYTES)
    assert decode_raw("x", BYTES, (len(texts),), raw).tolist() == texts
    assert decode_output(OutputTensor("x", "BYTES", (len(texts),), raw)) == [text.encode() for text in texts]


def test_bytes_are_length_and_content() -> None:
    assert encode_raw(np.array(["ab", "é"], object), BYTES) == b"\x02\0\0\0ab\x02\0\0\0\xc3\xa9"


def test_raw_numbers_are_little_endian_and_not_copied() -> None:
    raw = bytes.fromhex("0100000002000000")
    array = decode_raw("x", DATATYPES["INT32"], (2,), raw)
    assert array.tolist() == [1, 2]
    assert not array.flags.owndata


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "message"),
    [
        ("FP32", (2, 3), b"\0" * 20, "input 'x': expected 24 bytes of raw contents for FP32 [2, 3], got 20"),
        ("BOOL", (3,), b"\0\x02\x01", "input 'x': expected bytes 0 and 1 in raw contents of type BOOL, got others"),
        ("BYTES", (1,), b"\x01\0", "input 'x': expected a 4-byte length at byte 0 of 2"),
        ("BYTES", (1,), b"\xff\xff\xff\xffa", "input 'x': expected element 0 to end by byte 5, got 4294967299"),
        ("BYTES", (2,), b"\0\0\0\0", "input 'x': expected 2 elements of BYTES for shape [2], got 1"),
        ("BYTES", (1,), b"\x01\0\0\0\xff", "input 'x': expected UTF-8 in element 0, got other bytes"),
    ],
)
def test_raw_contents_that_do_not_fit(datatype: str, shape: tuple[int, ...], raw: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_raw("x", DATATYPES[datatype], shape, raw)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("datatype", "typed", "message"),
    [
        ("FP32", [("fp64_contents", [1.0])], "input 'x': expected FP32 in fp32_contents, got fp64_contents"),
        (
            "FP32",
            [("fp32_contents", [1.0]), ("int_contents", [1])],
            "input 'x': expected FP32 in fp32_contents, got int_contents",
        ),
        ("FP32", [], "input 'x': expected 2 values in fp32_contents for shape [2], got 0"),
        (
            "INT64",
            [("int64_contents", [1, 2, 3])],
            "input 'x': expected 2 values in int64_contents for shape [2], got 3",
        ),
        ("FP16", [], "input 'x': expected raw contents, FP16 has no typed ones"),
        ("BYTES", [("bytes_contents", [b"a", b"\xff"])], "input 'x': expected UTF-8 in element 1, got other bytes"),
    ],
)
def test_typed_contents_that_do_not_fit(datatype: str, typed: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_typed("x", DATATYPES[datatype], (2,), typed)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("datatype", "field", "value"), [("INT8", "int_contents", 128), ("UINT16", "uint_contents", 1 << 16)]
)
def test_typed_numbers_must_fit_their_type(datatype: str, field: str, value: int) -> None:
    with pytest.raises(InvalidInput, match=f"input 'x': expected values within {datatype}"):
        decode_typed("x", DATATYPES[datatype], (1,), [(field, [value])])
