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
from headrace_engines.properties import TOKENS, SecondText, Tokenised
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


def weighing(told: str) -> bytes:
    """Return a graph of two texts that sums the tokens of each row, those of the first a thousand times."""
    nodes = [helper.make_node("Max", [name, "0"], [f"{name}s"]) for name in ("text", "other")]
    nodes += [
        helper.make_node("Mul", ["texts", "1000"], ["weighed"]),
        helper.make_node("Add", ["weighed", "others"], ["each"]),
        helper.make_node("ReduceSum", ["each", "axis"], ["total"], keepdims=0),
    ]
    constants = [helper.make_tensor(str(value), TensorProto.INT64, [], [value]) for value in (0, 1_000)]
    graph = helper.make_graph(
        nodes,
        "weighs",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("text", "other")],
        [helper.make_tensor_value_info("total", TensorProto.INT64, ["batch"])],
        [*constants, helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {TOKENS: told})
    return bytes(model.SerializeToString())


@pytest.fixture
def tokenised(tiny_bert: Path) -> Tokenised:
    return Tokenised(length=8, fill="a film", tokenizer=(tiny_bert / "tokenizer.json").read_text())


def told(tokenised: Tokenised) -> str:
    return json.dumps({"text": tokenised.model_dump()})


def paired(tokenised: Tokenised, name: str = "other", fill: str | None = None) -> Tokenised:
    return tokenised.model_copy(update={"second": SecondText(name=name, fill=fill)})


def arrays(texts: list[str]) -> dict[str, Array]:
    return {"text": np.array(texts, dtype=object), "weight": np.arange(1, len(texts) + 1)}


def test_tokens_are_those_of_the_library(tokenised: Tokenised) -> None:
    from tokenizers import Tokenizer as Library
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Library.from_str(tokenised.tokenizer), pad_token="[PAD]")
    filled = [text or "a film" for text in TEXTS]
    expected = tokenizer(filled, truncation=True, max_length=8)["input_ids"]
    assert Tokenizer(tokenised).rows(TEXTS)[0] == expected
    assert max(map(len, expected)) == 8


def test_tokens_of_pairs_are_those_of_the_library(tokenised: Tokenised) -> None:
    from tokenizers import Tokenizer as Library
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Library.from_str(tokenised.tokenizer), pad_token="[PAD]")
    pairs = [(first, second) for first in TEXTS for second in [*TEXTS, "the song was good", "one"]]
    filled = [(first or "a film", second or "not one") for first, second in pairs]
    for length in (3, 4, 8, 11, 200):
        asked = paired(tokenised, fill="not one").model_copy(update={"length": length})
        read = tokenizer(*zip(*filled, strict=True), truncation=True, max_length=length, return_token_type_ids=True)
        rows = Tokenizer(asked).rows(*map(list, zip(*pairs, strict=True)))
        for tokens, kinds, *found in zip(read["input_ids"], read["token_type_ids"], *rows, strict=True):
            for place, row in enumerate(found):
                assert row == [token if kind == place else -1 for token, kind in zip(tokens, kinds, strict=True)]


def test_of_each_text_of_a_pair_it_is_counted_whether_it_was_cut(tokenised: Tokenised) -> None:
    texts = (
        ["a film", "a film", "good " * 7, "good " * 7, "good", "x" * 5000],
        ["so", "good " * 7, "so", "so " * 8, "", ""],
    )
    assert Tokenizer(paired(tokenised)).cut(*texts) == [3, 2]
    assert Tokenizer(tokenised).cut(texts[0]) == [3]


def test_what_is_cut_off_two_long_texts_is_not_kept_part_by_part(tokenised: Tokenised) -> None:
    tokenizer, text = Tokenizer(paired(tokenised)), "\u65e5" * 1_000  # each character is a word
    (encoding, _), *_ = tokenizer._encoded([[text], [text]])
    assert not encoding.overflowing  # kept, the parts would be combined: 334 times 500 rows of them
    assert [len(row) for rows in tokenizer.rows([text], [text]) for row in rows] == [8, 8]
    assert tokenizer.cut([text], [text]) == [1, 1]


def test_a_tokenizer_that_does_not_tell_two_texts_apart_is_told(tokenised: Tokenised) -> None:
    plain = json.loads(tokenised.tokenizer)
    plain["post_processor"]["pair"] = plain["post_processor"]["single"]
    one = paired(tokenised).model_copy(update={"tokenizer": json.dumps(plain)})
    with pytest.raises(NotAModel, match="expected a tokenizer with marks of types 0 and 1 around two texts"):
        Tokenizer(one)


def test_a_model_takes_two_texts_in_the_places_of_the_tokens_of_a_row(
    tokenised: Tokenised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "_MOST_TOKENS", 20)
    asked = paired(tokenised).model_copy(update={"length": 30})
    model = OnnxModel(weighing(told(asked)))
    names = ("text", "other")
    assert [(each.name, each.dtype.name, each.shape) for each in model.inputs] == [
        (name, "object", ("batch",)) for name in names
    ]
    columns = [["good " * (place % 7) + "a" for place in range(40)], ["so " * (place % 5) for place in range(40)]]
    (total,) = model.run({name: np.array(each, object) for name, each in zip(names, columns, strict=True)}, ["total"])
    first, second = ([sum(max(token, 0) for token in row) for row in rows] for rows in Tokenizer(asked).rows(*columns))
    assert total.tolist() == [1_000 * one + other for one, other in zip(first, second, strict=True)]
    sampled = model.sample(2)
    assert {
        len(row) for rows in Tokenizer(asked).rows(*(sampled[name].tolist() for name in names)) for row in rows
    } == {30}
    with pytest.raises(NotAModel, match=r"expected inputs of the graph in headrace.tokens, got unknown"):
        OnnxModel(weighing(told(paired(tokenised, name="unknown"))))


def test_a_model_takes_texts_in_the_place_of_tokens(tokenised: Tokenised) -> None:
    model = OnnxModel(summing(told(tokenised)))
    assert [(each.name, each.dtype.name, each.shape) for each in model.inputs] == [
        ("text", "object", ("batch",)),
        ("weight", "int64", ("batch",)),
    ]
    assert not model.is_steady
    (total,) = model.run(arrays(TEXTS), ["total"])
    tokens = Tokenizer(tokenised).rows(TEXTS)[0]
    longest = max(map(len, tokens))
    assert total.tolist() == [(sum(row) - longest + len(row)) * place for place, row in enumerate(tokens, 1)]
    assert {len(row) for row in Tokenizer(tokenised).rows(model.sample(3)["text"].tolist())[0]} == {8}


def test_what_is_computed_at_once_is_bounded_and_rows_come_back_in_their_places(
    tokenised: Tokenised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "_MOST_TOKENS", 20)
    model, texts = OnnxModel(summing(told(tokenised))), ["good " * (place % 7) + "a" for place in range(40)]
    total, width = model.run(arrays(texts), ["total", "width"])
    lengths = np.array([len(row) for row in Tokenizer(tokenised).rows(texts)[0]])
    sums = np.array([sum(row) for row in Tokenizer(tokenised).rows(texts)[0]])
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
    with pytest.raises(NotAModel, match="expected a length of at least 2 tokens, which each row has, got 1"):
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
