"""Log-probabilities of the engine are those that the equations of the network give for the same weights."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gguf
import numpy as np
import pytest
from headrace_engines.generator import Piece, Room, Sampling
from headrace_engines.gguf_reading import GgufFile, read_gguf
from headrace_engines.gguf_tokens import TextTokens
from headrace_engines.openvino_generator import OpenVinoGenerator

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
HEADS, SIZE, EPSILON, BASE = 2, 32, 1e-5, 10_000.0
PROMPT, ANSWER = "<|im_start|>user\nwho turns the mill?<|im_end|>\n" * 3, " the river, 12 times é all day long" * 2


class Llama:
    """The network in numpy, for one sequence: https://arxiv.org/abs/2302.13971, positions as in arXiv 2104.09864."""

    def __init__(self, data: bytes, file: GgufFile) -> None:
        self._data, self._file = data, file

    def logprobs(self, tokens: list[int]) -> Array:
        """Return the log-probability of each token behind the first."""
        embedding = self._weight("token_embd.weight")
        state = embedding[tokens]
        for layer in range(2):
            state = state + self._attention(f"blk.{layer}", self._normed(state, f"blk.{layer}.attn_norm.weight"))
            inner = self._normed(state, f"blk.{layer}.ffn_norm.weight")
            gate, up, down = (self._weight(f"blk.{layer}.ffn_{name}.weight") for name in ("gate", "up", "down"))
            gated = inner @ gate.T
            state = state + (gated / (1 + np.exp(-gated)) * (inner @ up.T)) @ down.T
        logits = self._normed(state, "output_norm.weight") @ embedding.T
        logits -= np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) + logits.max(
            -1, keepdims=True
        )
        found: Array = logits[np.arange(len(tokens) - 1), tokens[1:]]
        return found

    def _attention(self, block: str, state: Array) -> Array:
        # Pairs of neighbours turn, as rows of queries and keys lie in the file.
        queries = self._turned((state @ self._weight(f"{block}.attn_q.weight").T).reshape(len(state), HEADS, SIZE))
        keys = self._turned((state @ self._weight(f"{block}.attn_k.weight").T).reshape(len(state), 1, SIZE))
        values = (state @ self._weight(f"{block}.attn_v.weight").T).reshape(len(state), 1, SIZE)
        scores = np.einsum("qhd,kgd->hqk", queries, keys) / np.sqrt(SIZE)
        scores = np.where(np.tri(len(state), dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed: Array = np.einsum("hqk,kgd->qhd", shares, values).reshape(len(state), HEADS * SIZE)
        return mixed @ self._weight(f"{block}.attn_output.weight").T

    def _turned(self, rows: Array) -> Array:
        angles = np.arange(len(rows))[:, None, None] * BASE ** (-np.arange(0, SIZE, 2) / SIZE)
        even, odd = rows[..., ::2], rows[..., 1::2]
        turned = np.empty_like(rows)
        turned[..., ::2] = even * np.cos(angles) - odd * np.sin(angles)
        turned[..., 1::2] = even * np.sin(angles) + odd * np.cos(angles)
        return turned

    def _normed(self, state: Array, name: str) -> Array:
        normed: Array = state / np.sqrt((state**2).mean(-1, keepdims=True) + EPSILON)
        return normed * self._weight(name)

    def _weight(self, name: str) -> Array:
        stored = self._file.tensors[name]
        raw = np.frombuffer(self._data, np.uint8, stored.size_bytes, stored.start)
        kind = gguf.GGMLQuantizationType[stored.type.name]
        numbers: Array = gguf.quants.dequantize(raw, kind).reshape(stored.shape)
        return numbers.astype(np.float64)


@pytest.mark.parametrize(("kind", "within"), [("F16", 0.01), ("Q8_0", 0.2), ("Q4_0", 0.2)])
def test_scores_are_those_of_the_equations(tiny_gguf: Callable[..., bytes], kind: str, within: float) -> None:
    data = tiny_gguf(kind)
    file = read_gguf(data)
    tokens = TextTokens(file)
    before, after = tokens.encode(PROMPT, 500), tokens.encode_after(ANSWER, 500)
    expected = Llama(data, file).logprobs(before + after)[len(before) - 1 :]
    # With weights of fewer bits the engine rounds what they are multiplied with too: to 8, each 32 numbers.
    # Prompts are longer than a step, and several are in each.
    generator = OpenVinoGenerator(data, Room(4 * 1024 * 1024, threads=2, step_tokens=48, keeps_prefixes=False))
    try:
        with ThreadPoolExecutor(3) as callers:
            found = list(callers.map(lambda _: generator.score(PROMPT, ANSWER), range(3)))
        beside: list[Piece] = []
        failed: list[Exception] = []
        generator.start(PROMPT, Sampling(1, logprobs=True), beside.append, failed.append)
        again = generator.score(PROMPT, ANSWER)
    finally:
        generator.close()
    for scores in (*found, again):
        assert len(scores) == len(after)
        assert np.abs(np.array(scores) - expected).max() < within
        assert abs(np.mean(scores) - np.mean(expected)) < within / 10
    assert [piece.finish for piece in beside] == ["length"]
    assert not failed


def test_a_generator_that_keeps_prefixes_does_not_score() -> None:
    generator = OpenVinoGenerator.__new__(OpenVinoGenerator)
    generator._room = Room()
    with pytest.raises(ValueError, match="keeps_prefixes"):
        generator.score("a", "b")
