from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from headrace_inference.core.cache_key import PREFIX, cache_key, seal, unseal
from headrace_inference.core.signature import Call, Signature, TensorSpec
from headrace_inference.core.tensors import (
    BYTES,
    DATATYPES,
    Datatype,
    InputTensor,
    OutputTensor,
    decode_output,
    encode_raw,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

DIGEST = "sha256:" + "0" * 64
OUTPUTS = ("probabilities", "label")
NUMERIC = [datatype for datatype in DATATYPES.values() if datatype.typed_field and datatype is not BYTES]
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=3)
NAMES = st.text("abc", min_size=1, max_size=3)


def inputs_of(datatype: Datatype, array: Any, *, raw: bool) -> dict[str, Any]:
    """Return the array as a call with raw or typed contents would deliver it."""
    encoded = encode_raw(array, datatype)
    signature = Signature([TensorSpec("x", datatype, tuple(array.shape), optional=True)], [], 1)
    typed = [(str(datatype.typed_field), decode_output(OutputTensor("x", datatype.name, array.shape, encoded)))]
    tensor = InputTensor("x", datatype.name, array.shape, () if raw else typed)
    return signature.arrays(Call("m", "", "", [tensor], (encoded,) if raw else (), ()))


@given(st.data(), st.sampled_from(NUMERIC))
def test_typed_and_raw_forms_share_a_key(data: st.DataObject, datatype: Datatype) -> None:
    array = data.draw(arrays.arrays(datatype.dtype, SHAPES))
    raw, typed = (inputs_of(datatype, array, raw=raw) for raw in (True, False))
    assert cache_key(DIGEST, raw, OUTPUTS) == cache_key(DIGEST, typed, OUTPUTS)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_typed_and_raw_strings_share_a_key(texts: list[str]) -> None:
    array = np.array([*texts, None], object)[:-1]
    raw, typed = (inputs_of(BYTES, array, raw=raw) for raw in (True, False))
    assert cache_key(DIGEST, raw, OUTPUTS) == cache_key(DIGEST, typed, OUTPUTS)


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FC0BEEF])
def test_every_nan_is_one(bits: int) -> None:
    array = np.array([0x3F800000, bits], "<u4").view("<f4")
    canonical = inputs_of(DATATYPES["FP32"], np.array([1.0, np.nan], "<f4"), raw=True)

    given = inputs_of(DATATYPES["FP32"], array, raw=True)

    assert given["x"].dtype == np.float32
    assert cache_key(DIGEST, given, OUTPUTS) == cache_key(DIGEST, canonical, OUTPUTS)
    assert cache_key(DIGEST, given, OUTPUTS) != cache_key(DIGEST, {"x": np.array([1.0, 0.0], "<f4")}, OUTPUTS)


def test_texts_that_join_alike_and_gaps_have_keys_of_their_own() -> None:
    texts = [["ab", "c"], ["a", "bc"], ["abc", ""], ["", "abc"], ["e\u0301", ""], ["\u00e9", ""]]

    keys = {cache_key(DIGEST, {"x": np.array(each, object)}, OUTPUTS) for each in texts}

    assert len(keys) == len(texts)


def test_the_order_of_inputs_does_not_matter() -> None:
    one, two = np.zeros(2, "<f4"), np.ones(2, "<f4")
    assert cache_key(DIGEST, {"a": one, "b": two}, OUTPUTS) == cache_key(DIGEST, {"b": two, "a": one}, OUTPUTS)


@given(arrays.arrays("<f4", SHAPES), st.data())
def test_any_changed_byte_changes_the_key(array: Any, data: st.DataObject) -> None:
    raw = bytearray(array.tobytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = np.frombuffer(bytes(raw), "<f4").reshape(array.shape)
    assert cache_key(DIGEST, {"x": array}, OUTPUTS) != cache_key(DIGEST, {"x": changed}, OUTPUTS)


@given(st.sampled_from(NUMERIC), st.sampled_from(NUMERIC))
def test_the_type_is_part_of_the_key(one: Datatype, other: Datatype) -> None:
    assume(one is not other)
    keys = {cache_key(DIGEST, {"x": np.zeros(8 // each.dtype.itemsize, each.dtype)}, OUTPUTS) for each in (one, other)}
    assert len(keys) == 2


def test_the_shape_is_part_of_the_key() -> None:
    shapes = [(6,), (1, 6), (6, 1), (2, 3), (3, 2)]
    assert len({cache_key(DIGEST, {"x": np.zeros(shape, "<f4")}, OUTPUTS) for shape in shapes}) == len(shapes)


@given(NAMES, NAMES)
def test_the_name_is_part_of_the_key(one: str, other: str) -> None:
    assume(one != other)
    zeros = np.zeros(1, "<f4")
    assert cache_key(DIGEST, {one: zeros}, OUTPUTS) != cache_key(DIGEST, {other: zeros}, OUTPUTS)


@given(st.lists(NAMES, max_size=3), st.lists(NAMES, max_size=3))
def test_the_outputs_are_part_of_the_key(one: list[str], other: list[str]) -> None:
    zeros = {"x": np.zeros(1, "<f4")}
    assert (cache_key(DIGEST, zeros, one) == cache_key(DIGEST, zeros, other)) == (one == other)


def test_the_graph_is_part_of_the_key() -> None:
    zeros = {"x": np.zeros(1, "<f4")}
    assert cache_key(DIGEST, zeros, OUTPUTS) != cache_key("sha256:" + "1" + "0" * 63, zeros, OUTPUTS)


def test_bytes_cannot_move_from_one_input_to_the_next() -> None:
    split = [({"a": b"\0", "b": b"\0\0"}), ({"a": b"\0\0", "b": b"\0"})]
    keys = {
        cache_key(DIGEST, {name: np.frombuffer(raw, "u1") for name, raw in inputs.items()}, OUTPUTS) for inputs in split
    }
    assert len(keys) == 2


def test_a_key_is_readable() -> None:
    key = cache_key(DIGEST, {"x": np.zeros(1, "<f4")}, OUTPUTS)
    assert key.startswith(PREFIX)
    assert len(bytes.fromhex(key.removeprefix(PREFIX).decode())) == 16


KEY = PREFIX + b"0" * 32


@given(st.binary(max_size=100))
def test_a_sealed_payload_comes_back(payload: bytes) -> None:
    assert unseal(KEY, seal(KEY, payload)) == payload


@given(st.binary(max_size=100), st.data())
def test_a_damaged_value_is_noticed(payload: bytes, data: st.DataObject) -> None:
    value = bytearray(seal(KEY, payload))
    value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert unseal(KEY, bytes(value)) is None
    assert unseal(KEY, seal(KEY, payload)[: data.draw(st.integers(0, len(payload) + 7))]) is None


@given(st.binary(max_size=100))
def test_a_whole_value_under_another_key_is_noticed(payload: bytes) -> None:
    assert unseal(PREFIX + b"1" * 32, seal(KEY, payload)) is None
