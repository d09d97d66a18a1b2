"""Rows to arrays to raw bytes and back, for any values."""

from __future__ import annotations

import numpy as np
import pytest
from headrace_client.errors import AnswerInvalid, InputInvalid, RowsInvalid
from headrace_client.tensors import DTYPES, TensorSpec, arrays_from_rows, from_raw, to_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

UNHURRIED = settings(deadline=None, max_examples=50)
NUMERIC = [name for name in DTYPES if name != "BYTES"]


@UNHURRIED
@given(st.data(), st.sampled_from(NUMERIC))
def test_numbers_survive_the_wire(data, datatype):
    array = data.draw(arrays_of.arrays(DTYPES[datatype], arrays_of.array_shapes(min_dims=1, max_dims=3)))
    back = from_raw(to_raw(array, datatype), datatype, array.shape)
    assert back.dtype == DTYPES[datatype]
    assert back.tobytes() == array.tobytes()


@UNHURRIED
@given(st.lists(st.text() | st.binary()))
def test_texts_survive_the_wire(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    back = from_raw(to_raw(array, "BYTES"), "BYTES", [len(items)])
    as_bytes = [item.encode() if isinstance(item, str) else item for item in items]
    assert [item.encode() if isinstance(item, str) else item for item in back.tolist()] == as_bytes


@UNHURRIED
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4), min_size=1)
)
def test_rows_become_one_array(rows):
    spec = TensorSpec("x", "FP32", (-1, 2, 2))
    given_rows = [{"x": [row[:2], row[2:]], "id": "ignored"} for row in rows]
    array = arrays_from_rows(given_rows, [spec])["x"]
    assert array.dtype == np.float32
    assert array.reshape(len(rows), 4).tolist() == rows


def test_any_size_must_be_the_same_in_every_row_of_a_call():
    spec = TensorSpec("x", "INT64", (-1, -1))
    assert arrays_from_rows([{"x": [1, 2]}, {"x": [3, 4]}], [spec])["x"].shape == (2, 2)
    with pytest.raises(RowsInvalid, match=r"row 2, field 'x': shape \[1\], but row 1 has shape \[2\]"):
        arrays_from_rows([{"x": [1, 2]}, {"x": [3]}], [spec])


def test_a_number_stands_for_a_vector_of_one():
    spec = TensorSpec("age", "FP32", (-1, 1))
    assert arrays_from_rows([{"age": 41}, {"age": [42]}], [spec])["age"].tolist() == [[41.0], [42.0]]


def test_whole_numbers_keep_every_digit():
    spec = TensorSpec("id", "INT64", (-1,))
    assert arrays_from_rows([{"id": 2**63 - 1}], [spec])["id"].tolist() == [2**63 - 1]


@pytest.mark.parametrize(
    ("raw", "datatype", "shape"),
    [(b"123", "FP32", [1]), (b"\x09\x00\x00\x00ab", "BYTES", [1]), (b"ab", "BYTES", [1]), (b"", "BYTES", [1])],
)
def test_bytes_that_do_not_fit_are_refused(raw, datatype, shape):
    with pytest.raises(AnswerInvalid, match=f"do not hold {datatype}"):
        from_raw(raw, datatype, shape)


def test_unknown_data_types():
    with pytest.raises(AnswerInvalid, match="data type BF16"):
        from_raw(b"", "BF16", [0])
    with pytest.raises(InputInvalid, match="data type BF16"):
        to_raw(np.zeros(1), "BF16")
