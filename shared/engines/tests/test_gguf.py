"""Files of models of language: what is in them is read, and what the engine could not compute is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from headrace_engines.errors import NotAModel, Unanswerable
from headrace_engines.gguf_language import language_of
from headrace_engines.gguf_reading import read_gguf
from headrace_engines.gguf_tokens import TextTokens

Write = Callable[..., bytes]


def looked_at(data: bytes) -> TextTokens:
    file = read_gguf(data)
    language_of(file)
    return TextTokens(file)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0"])
def test_a_model_of_language_is_read_from_bytes_and_from_a_file(tiny_gguf: Write, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(tiny_gguf(kind))
    found = language_of(read_gguf(path))
    assert found == language_of(read_gguf(tiny_gguf(kind)))
    assert (found.layers, found.heads, found.key_heads, found.head_size, found.context) == (2, 2, 1, 32, 256)
    assert found.has_whole_weights == (kind == "F16")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"llama.block_count": 3}, "blk.2"),
        ({"llama.block_count": 2**31}, "llama.block_count"),
        ({"llama.attention.head_count": 4}, "attn_k"),
        ({"llama.attention.head_count_kv": None}, "attn_k"),
        ({"llama.embedding_length": None}, "llama.embedding_length"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon"),
        ({"llama.rope.freq_base": 1}, "rope.freq_base"),
        ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.type"),
        ({"general.file_type": None}, "general.file_type"),
        ({"general.architecture": "mamba"}, "general.architecture"),
        ({"split.count": 2}, "split.count"),
        ({"tokenizer.other.token_type": 1}, "last words"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model"),
        ({"tokenizer.ggml.pre": "unheard-of"}, "tokenizer.ggml.pre"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "token_type"),
        ({"tokenizer.ggml.merges": ["a b c"]}, "merges"),
        ({"tokenizer.ggml.merges": ["a unheard-of"]}, "tokenizer"),
        ({"tokenizer.ggml.eos_token_id": 288}, "eos_token_id"),
    ],
)
def test_what_the_engine_would_compute_wrongly_or_not_survive_is_named(
    tiny_gguf: Write, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(NotAModel, match=named):
        looked_at(tiny_gguf(**changes))


def test_no_part_of_a_file_and_no_changed_byte_of_its_header_ends_otherwise_than_in_an_answer(tiny_gguf: Write) -> None:
    whole, draw = tiny_gguf("Q4_0"), random.Random(0)
    for _ in range(40):
        with pytest.raises(NotAModel):
            looked_at(whole[: draw.randrange(len(whole) - 1)])
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(draw.choice((1, 8))):
            changed[draw.randrange(8_000)] = draw.choice((0, 1, 0x7F, 0xFF, draw.randrange(256)))
        with suppress(NotAModel):
            looked_at(bytes(changed))


def test_texts_come_back_from_their_tokens_whatever_they_hold(tiny_gguf: Write) -> None:
    tokens = looked_at(tiny_gguf())
    for text in ("the mill turns", "  \n\n\ttabs", "naïve café — 日本語 🎉", "1234 don't", "\0\x7f", ""):
        found = tokens.encode(text, 1_000)
        assert b"".join(tokens.parts[token] for token in found).decode() == text
    assert tokens.encode("<|im_start|>", 10) == [1]
    assert tokens.parts[1] == b""
    assert tokens.ends == {2}


def test_a_prompt_begins_with_the_token_that_the_file_asks_for_and_with_one_alone(tiny_gguf: Write) -> None:
    tokens = looked_at(tiny_gguf(**{"tokenizer.ggml.add_bos_token": True}))
    assert tokens.encode("mill", 10)[0] == 1
    assert tokens.encode("<|im_start|>mill", 10).count(1) == 1
    assert 1 not in tokens.encode_after("mill", 10)


def test_a_text_that_is_too_long_is_refused_before_it_takes_time(tiny_gguf: Write) -> None:
    tokens = looked_at(tiny_gguf())
    with pytest.raises(Unanswerable, match="at most 10 tokens"):
        tokens.encode("x" * 100_000_000, 10)
    with pytest.raises(Unanswerable, match="at most 10 tokens, got 11"):
        tokens.encode("x" * 11, 10)
