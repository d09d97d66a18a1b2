from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from headrace_inference.core.cache_key import cache_key
from headrace_inference.core.signature import Call, Signature, TensorSpec
from headrace_inference.core.tensors import (
    DATATYPES,
    InputTensor,
    OutputTensor,
    decode_output,
    encode_raw,
    with_known_gaps,
)
from headrace_runtime.errors import InvalidInput

PIXELS = TensorSpec("pixels", DATATYPES["FP32"], ("batch", 2, 2))
AGE = TensorSpec("age", DATATYPES["INT64"], ("batch",))
SIGNATURE = Signature(
    [PIXELS, AGE],
    [
        TensorSpec("probabilities", DATATYPES["FP32"], ("batch", 10)),
        TensorSpec("label", DATATYPES["BYTES"], ("batch",)),
    ],
    max_rows=8,
)


def call(*inputs: InputTensor, raws: tuple[bytes, ...] = (), outputs: tuple[str, ...] = ()) -> Call:
    return Call("m", "", "", inputs, raws, outputs)


def pixels(*shape: int, **fields: Any) -> InputTensor:
    return InputTensor("pixels", **{"datatype": "FP32", "shape": shape or (1, 2, 2)} | fields)


def age(*shape: int, **fields: Any) -> InputTensor:
    return InputTensor("age", **{"datatype": "INT64", "shape": shape or (1,)} | fields)


ZEROS = (bytes(16), bytes(8))


def test_raw_inputs_become_arrays_in_any_order() -> None:
    arrays = SIGNATURE.arrays(call(age(), pixels(), raws=(np.int64(7).tobytes(), np.ones(4, "<f4").tobytes())))
    assert arrays["age"].tolist() == [7]
    assert arrays["pixels"].tolist() == [[[1, 1], [1, 1]]]


def test_typed_inputs_become_the_same_arrays() -> None:
    arrays = SIGNATURE.arrays(call(pixels(typed=[("fp32_contents", [1.0] * 4)]), age(typed=[("int64_contents", [7])])))
    assert (arrays["age"].tolist(), arrays["pixels"].tolist()) == ([7], [[[1, 1], [1, 1]]])
    assert (arrays["age"].dtype, arrays["pixels"].dtype) == (np.int64, np.float32)


def test_rows_are_the_first_dimension() -> None:
    assert SIGNATURE.rows({"pixels": np.zeros((3, 2, 2)), "age": np.zeros(3)}) == 3
    assert Signature([TensorSpec("x", DATATYPES["FP32"], (4,))], [], 8).rows({"x": np.zeros(4)}) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            call(pixels()),
            "inputs: expected 'pixels' FP32 [-1, 2, 2], 'age' INT64 [-1], got ['pixels']: missing ['age']",
        ),
        (
            call(pixels(), age(), InputTensor("height", "FP32", (1,))),
            "inputs: expected 'pixels' FP32 [-1, 2, 2], 'age' INT64 [-1], got ['pixels', 'age', 'height']: "
            "unknown ['height']",
        ),
        (
            call(InputTensor("pixel", "FP32", (1,)), age()),
            "inputs: expected 'pixels' FP32 [-1, 2, 2], 'age' INT64 [-1], got ['pixel', 'age']: "
            "missing ['pixels'] and unknown ['pixel']",
        ),
        (call(pixels(), age(), age()), "inputs: expected each name once, got ['pixels', 'age', 'age']"),
        (
            call(pixels(), age(), raws=(bytes(16),)),
            "raw_input_contents: expected 2 entries, one for each input, got 1",
        ),
        (
            call(pixels(), age(typed=[("int64_contents", [1])]), raws=ZEROS),
            "input 'age': expected raw or typed contents, got both",
        ),
        (call(pixels(datatype="FP64"), age(), raws=ZEROS), "input 'pixels': expected datatype FP32, got 'FP64'"),
        (
            call(pixels(1, 4), age(), raws=ZEROS),
            "input 'pixels': expected 3 dimensions [-1, 2, 2], got 2: [1, 4]",
        ),
        (
            call(pixels(1, 2, 3), age(), raws=ZEROS),
            "input 'pixels': expected shape [-1, 2, 2], got [1, 2, 3]: dimension 2 should be 2",
        ),
        (
            call(pixels(9, 2, 2), age(9), raws=ZEROS),
            "input 'pixels': expected shape [-1, 2, 2], got [9, 2, 2]: dimension 0 should be 1 to 8 rows",
        ),
        (
            call(pixels(0, 2, 2), age(0), raws=ZEROS),
            "input 'pixels': expected shape [-1, 2, 2], got [0, 2, 2]: dimension 0 should be 1 to 8 rows",
        ),
        (
            call(pixels(-1, 2, 2), age(), raws=ZEROS),
            "input 'pixels': expected shape [-1, 2, 2], got [-1, 2, 2]: dimension 0 should be 1 to 8 rows",
        ),
        (
            call(pixels(1, 2, 2), age(2), raws=ZEROS),
            "input 'age': expected 1 in dimension 0 as in the inputs before, got 2",
        ),
        (
            call(pixels(), age(), raws=(bytes(15), bytes(8))),
            "input 'pixels': expected 16 bytes of raw contents for FP32 [1, 2, 2], got 15",
        ),
        (call(pixels(), age()), "input 'pixels': expected 4 values in fp32_contents for shape [1, 2, 2], got 0"),
    ],
)
def test_a_call_that_does_not_fit_is_told_why(wrong: Call, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        SIGNATURE.arrays(wrong)
    assert str(caught.value) == message


def test_other_dimensions_that_callers_choose_may_be_empty_but_not_negative() -> None:
    signature = Signature([TensorSpec("words", DATATYPES["INT64"], ("batch", "length"))], [], 8)
    assert signature.arrays(call(InputTensor("words", "INT64", (1, 0)), raws=(b"",)))["words"].shape == (1, 0)
    with pytest.raises(InvalidInput, match="dimension 1 should be no negative size"):
        signature.arrays(call(InputTensor("words", "INT64", (1, -1)), raws=(b"",)))


def test_outputs_are_those_asked_for_or_all() -> None:
    assert SIGNATURE.requested(()) == ("probabilities", "label")
    assert SIGNATURE.requested(("label",)) == ("label",)
    assert SIGNATURE.requested(("label", "probabilities")) == ("label", "probabilities")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (("logits",), "output 'logits': expected one of ['probabilities', 'label']"),
        (("label", "label"), "outputs: expected each name once, got ['label', 'label']"),
    ],
)
def test_outputs_that_there_are_not(outputs: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        SIGNATURE.requested(outputs)
    assert str(caught.value) == message


TABLE = Signature(
    [
        TensorSpec("length", DATATYPES["FP32"], ("batch",), optional=True),
        TensorSpec("width", DATATYPES["FP64"], ("batch", 2)),
        TensorSpec("colour", DATATYPES["BYTES"], ("batch",), optional=True),
        TensorSpec("sort", DATATYPES["BYTES"], ("batch",)),
    ],
    [TensorSpec("prediction", DATATYPES["FP32"], ("batch",))],
    max_rows=8,
)


def table_call(
    length: float = 1.0, width: Sequence[float] = (1.0, 2.0), colour: str = "red", sort: str = "a", *, typed: bool
) -> Call:
    values = {
        "length": np.array([length], "<f4"),
        "width": np.array([width], "<f8"),
        "colour": np.array([colour], object),
        "sort": np.array([sort], object),
    }
    raws = [encode_raw(values[spec.name], spec.datatype) for spec in TABLE.inputs]
    shapes = {name: array.shape for name, array in values.items()}
    inputs = [
        InputTensor(
            spec.name,
            spec.datatype.name,
            shapes[spec.name],
            [
                (
                    str(spec.datatype.typed_field),
                    decode_output(OutputTensor(spec.name, spec.datatype.name, shapes[spec.name], raw)),
                )
            ]
            if typed
            else (),
        )
        for spec, raw in zip(TABLE.inputs, raws, strict=True)
    ]
    return call(*inputs, raws=() if typed else tuple(raws))


@pytest.mark.parametrize("typed", [True, False])
def test_what_is_optional_may_be_missing(typed: bool) -> None:
    arrays = TABLE.arrays(table_call(float("nan"), colour="", typed=typed))

    assert np.isnan(arrays["length"]).all()
    assert arrays["length"].dtype == np.float32
    assert arrays["colour"].tolist() == [""]


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            {"width": (1.0, float("nan"))},
            "input 'width': expected a number in element [0, 1], got NaN: this feature may not be missing",
        ),
        (
            {"sort": ""},
            "input 'sort': expected a text in element [0], got an empty one: this feature may not be missing",
        ),
        *(
            (
                {"sort": blank},
                "input 'sort': expected a text in element [0], got a blank one: this feature may not be missing",
            )
            for blank in (" ", "\t\n", "\u3000")
        ),
    ],
)
def test_what_is_not_optional_may_not_be_missing(typed: bool, missing: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        TABLE.arrays(table_call(**missing, typed=typed))

    assert str(caught.value) == message


def test_the_first_text_that_is_missing_is_named() -> None:
    texts = np.array([["a ", " b"], ["c", "\u00a0"]], object)
    assert with_known_gaps("sort", texts[:1], optional=False) is not None
    with pytest.raises(InvalidInput, match=r"input 'sort': expected a text in element \[1, 1\], got a blank one"):
        with_known_gaps("sort", texts, optional=False)


def test_infinity_is_a_number() -> None:
    assert TABLE.arrays(table_call(float("inf"), (float("inf"), float("-inf")), typed=False))["length"][0] == np.inf


def test_what_is_optional_may_be_left_out_of_a_call() -> None:
    sort = InputTensor("sort", "BYTES", (2,), [("bytes_contents", [b"a", b"b"])])
    width = InputTensor("width", "FP64", (2, 2), [("fp64_contents", [1.0] * 4)])

    arrays = TABLE.arrays(call(sort, width))

    assert arrays.keys() == {"length", "width", "colour", "sort"}
    assert arrays["length"].dtype == np.float32
    assert np.isnan(arrays["length"]).tolist() == [True, True]
    assert arrays["colour"].tolist() == ["", ""]
    assert TABLE.rows(arrays) == 2
    spelled = InputTensor("length", "FP32", (2,), [("fp32_contents", [float("nan")] * 2)])
    assert cache_key("d", TABLE.arrays(call(sort, width, spelled)), ()) == cache_key("d", arrays, ())


def test_a_call_says_how_many_rows_it_has() -> None:
    only = Signature([TensorSpec("length", DATATYPES["FP32"], ("batch",), optional=True)], [], max_rows=8)

    with pytest.raises(InvalidInput, match="at least one beside 'length', to tell the number of rows"):
        only.arrays(call())
    with pytest.raises(InvalidInput, match=r"missing \['width', 'sort'\]"):
        TABLE.arrays(call(InputTensor("length", "FP32", (1,), [("fp32_contents", [1.0])])))
    twice = InputTensor("length", "FP32", (1,), [("fp32_contents", [1.0])])
    with pytest.raises(InvalidInput, match="each name once"):
        only.arrays(call(twice, twice))
