"""Texts in the place of tokens: an engine makes tokens as the tokenizer's library does, and in bounded pieces."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from headrace_engines import onnx_model
from headrace_engines.errors import NotAModel, RanTooLong
from headrace_engines.model import Array
from headrace_engines.onnx_model import OnnxModel
from headrace_engines.properties import TOKENS, Tokenised
from headrace_engines.run_limit import RunLimit
from headrace_engines.tokens import Tokenizer
from onnx import TensorProto, helper

TEXTS = ["good film", "", "a", "was it good? " * 30, "\u0000", "ünïcödé 😀", "not so bad [PAD]", "x" * 5000]


def summing(told: str | None) -> bytes:
    """Return a graph that sums the tokens of each row, those behind its end included."""
    tokens = helper.make_tensor_value_info("text", TensorProto.INT64, ["batch", "tokens"])
    weight = helper.make_tensor_value_info("weight", TensorProto.INT64, ["batch"])
    total = helper.make_tensor_value_info("total", TensorProto.INT64, ["batch"])
    width = helper.make_tensor_value_info("width", TensorProto.INT64, ["batch"])
    nodes = [
        helper.make_node("ReduceSum", ["text", "axis"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "weight"], ["total"]),
        helper.make_node("Equal", ["text", "text"], ["same"]),
        helper.make_node("Cast", ["same"], ["ones"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["ones", "axis"], ["width"], keepdims=0),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "sums", [tokens, weight], [total, width], [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if told is not None:
        helper.set_model_props(model, {TOKENS: told})
    return bytes(model.SerializeToString())


@pytest.fixture
def tokenised(tiny_bert: Path) -> Tokenised:
    return Tokenised(length=8, fill="a film", tokenizer=(tiny_bert / "tokenizer.json").read_text())


def told(tokenised: Tokenised) -> str:
    return json.dumps({"text": tokenised.model_dump()})


def arrays(texts: list[str]) -> dict[str, Array]:
    return {"text": np.array(texts, dtype=object), "weight": np.arange(1, len(texts) + 1)}


def test_tokens_are_those_of_the_library(tokenised: Tokenised) -> None:
    from tokenizers import Tokenizer as Library
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Library.from_str(tokenised.tokenizer), pad_token="[PAD]")
    filled = [text or "a film" for text in TEXTS]
    expected = tokenizer(filled, truncation=True, max_length=8)["input_ids"]
    assert Tokenizer(tokenised).tokens(TEXTS) == expected
    assert max(map(len, expected)) == 8


def test_a_model_takes_texts_in_the_place_of_tokens(tokenised: Tokenised) -> None:
    model = OnnxModel(summing(told(tokenised)))
    assert [(each.name, each.dtype.name, each.shape) for each in model.inputs] == [
        ("text", "object", ("batch",)),
        ("weight", "int64", ("batch",)),
    ]
    assert not model.is_steady
    (total,) = model.run(arrays(TEXTS), ["total"])
    tokens = Tokenizer(tokenised).tokens(TEXTS)
    longest = max(map(len, tokens))
    assert total.tolist() == [(sum(row) - longest + len(row)) * place for place, row in enumerate(tokens, 1)]
    assert {len(row) for row in Tokenizer(tokenised).tokens(model.sample(3)["text"])} == {8}


def test_what_is_computed_at_once_is_bounded_and_rows_come_back_in_their_places(
    tokenised: Tokenised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "_MOST_TOKENS", 20)
    model, texts = OnnxModel(summing(told(tokenised))), ["good " * (place % 7) + "a" for place in range(40)]
    total, width = model.run(arrays(texts), ["total", "width"])
    lengths = np.array([len(row) for row in Tokenizer(tokenised).tokens(texts)])
    sums = np.array([sum(row) for row in Tokenizer(tokenised).tokens(texts)])
    assert (total == (sums - (width - lengths)) * np.arange(1, 41)).all()
    assert all(np.sum(width == each) * each <= 20 or np.sum(width == each) > 20 // each for each in set(width))
    assert (width >= lengths).all()
    assert (width - lengths).max() < 6


def test_a_row_longer_than_the_bound_is_computed_by_itself() -> None:
    assert onnx_model._pieces(np.array([1, 2, 9_000, 9_000])) == [slice(0, 2), slice(2, 3), slice(3, 4)]
    assert onnx_model._pieces(np.full(12, 128)) == [slice(0, 8), slice(8, 12)]


@pytest.mark.parametrize("text", ["[]", "{", '{"text": {}}', '{"text": {"length": 0, "tokenizer": "{}"}}'])
def test_a_property_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(NotAModel, match=r"expected a JSON object of tokenised inputs as headrace.tokens, got"):
        OnnxModel(summing(text))


@pytest.mark.parametrize("tokenizer", ["", "{}", '{"version": "1.0", "model": {"type": "Own"}}'])
def test_a_tokenizer_that_is_none_is_told(tokenizer: str) -> None:
    with pytest.raises(NotAModel, match=r"expected a tokenizer as tokenizer\.json has it, got"):
        OnnxModel(summing(told(Tokenised(length=8, tokenizer=tokenizer))))


def test_special_tokens_that_take_all_room_are_told(tokenised: Tokenised) -> None:
    with pytest.raises(NotAModel, match="expected a length of at least 2 tokens, which each text has, got 1"):
        OnnxModel(summing(told(tokenised.model_copy(update={"length": 1}))))


def test_the_library_that_is_missing_is_named(tokenised: Tokenised, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(NotAModel, match=r"install headrace-engines\[text\]"):
        OnnxModel(summing(told(tokenised)))


def test_a_limit_of_time_holds_for_each_piece(tokenised: Tokenised) -> None:
    limit = RunLimit(60.0)
    model = OnnxModel(summing(told(tokenised)), limit)
    model.run(arrays(TEXTS), ["total"])
    assert not limit._running
    assert issubclass(RanTooLong, Exception)
