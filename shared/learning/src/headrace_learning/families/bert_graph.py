"""BERT as the operators of ONNX: tokens of any length in, one vector for each text out.

Devlin, Chang, Lee and Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"
(2019), as the library transformers has it. Written layer by layer and not traced: the graph then takes texts of any
length, a short one costs what it is long, and its bytes do not depend on an exporter.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from headrace_learning.writer import SECOND_AXIS, Writer
from headrace_learning.writing import write_gelu

ACTIVATIONS: Mapping[str, Callable[[Writer, str], str]] = {
    "gelu": write_gelu,
    "relu": lambda writer, value: writer.node("Relu", value),
}
"""How each activation is written, by its name in a model's configuration."""
_LOWEST = np.finfo(np.float32).min
"""What is added to the score of a place without a token."""


def write_encoder(encoder: nn.Module, pooling: str, texts: int, writer: Writer, value: str) -> str:
    """Write a `BertModel` behind rows of one text or two, as `TextNetwork` has them: [batch, texts * tokens] float32.

    Return the name of the mean over a row's tokens, or of its first place for the pooling cls: [batch, width].
    """
    bert: Any = encoder
    place = _Place(writer, bert.config)
    zero = writer.constant("0 int64", np.int64(0))
    kinds = None
    if texts > 1:
        each = writer.node("Reshape", value, writer.constant("texts", np.array([0, texts, -1])))
        value = writer.node("ReduceMax", each, writer.constant(SECOND_AXIS, np.array([1])), keepdims=0)
        second = writer.node("Gather", each, writer.constant("1 int64", np.int64(1)), axis=1)
        kinds = writer.node("GreaterOrEqual", second, writer.constant("0 float32", np.float32(0)))
        kinds = writer.cast(kinds, np.bool_, np.int64)
    tokens = writer.cast(value, np.float32, np.int64)
    held = writer.node("GreaterOrEqual", tokens, zero)
    hidden = place.embedded(bert.embeddings, writer.node("Max", tokens, zero), kinds)
    mask = writer.node(
        "Where", held, writer.constant("0 float32", np.float32(0)), writer.constant("no token", np.float32(_LOWEST))
    )
    mask = writer.node("Unsqueeze", mask, writer.constant("inner axes", np.array([1, 2])))
    for number, layer in enumerate(bert.encoder.layer):
        hidden = place.layer(layer, f"network.encoder.layer.{number}", hidden, mask)
    if pooling == "cls":
        return writer.node("Gather", hidden, zero, axis=1)
    return place.mean(hidden, held)


class _Place:
    """Where a graph is written, and the sizes of the model that is."""

    def __init__(self, writer: Writer, config: Any) -> None:
        self._writer = writer
        self._heads: int = config.num_attention_heads
        self._width: int = config.hidden_size
        self._epsilon: float = config.layer_norm_eps
        self._activation = ACTIVATIONS[config.hidden_act]

    def embedded(self, embeddings: Any, tokens: str, kinds: str | None) -> str:
        """Write what each token, its place and its text of a pair stand for, [batch, tokens, width]."""
        writer, name = self._writer, "network.encoder.embeddings"
        words = writer.node("Gather", self._weight(f"{name}.words", embeddings.word_embeddings.weight), tokens, axis=0)
        places, of_kinds = embeddings.position_embeddings.weight, embeddings.token_type_embeddings.weight
        if kinds is None:  # one text is of the first kind throughout
            places = places + of_kinds[0]
        else:
            kind = writer.node("Gather", self._weight(f"{name}.kinds", of_kinds), kinds, axis=0)
            words = writer.node("Add", words, kind)
        length = writer.node("Shape", tokens, start=1, end=2)
        start = writer.constant("[0]", np.array([0]))
        here = writer.node("Slice", self._weight(f"{name}.places", places), start, length, start)
        return self._normalised(embeddings.LayerNorm, f"{name}.norm", writer.node("Add", words, here))

    def layer(self, layer: Any, name: str, hidden: str, mask: str) -> str:
        """Write one layer: attention, then two dense layers, each added to what it is given and normalised."""
        writer, own = self._writer, layer.attention.self
        query, key, value = (
            self._in_heads(self._dense(dense, f"{name}.{word}", hidden), order)
            for dense, word, order in (
                (own.query, "query", [0, 2, 1, 3]),
                (own.key, "key", [0, 2, 3, 1]),
                (own.value, "value", [0, 2, 1, 3]),
            )
        )
        root = writer.constant("root of a head's width", np.float32((self._width / self._heads) ** 0.5))
        scores = writer.node("Add", writer.node("Div", writer.node("MatMul", query, key), root), mask)
        mixed = writer.node("MatMul", writer.node("Softmax", scores, axis=-1), value)
        mixed = writer.node("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = writer.node("Reshape", mixed, writer.constant("side by side", np.array([0, 0, self._width])))
        output = layer.attention.output
        attended = writer.node("Add", self._dense(output.dense, f"{name}.attended", mixed), hidden)
        attended = self._normalised(output.LayerNorm, f"{name}.attended.norm", attended)
        inner = self._activation(writer, self._dense(layer.intermediate.dense, f"{name}.inner", attended))
        outer = writer.node("Add", self._dense(layer.output.dense, f"{name}.outer", inner), attended)
        return self._normalised(layer.output.LayerNorm, f"{name}.outer.norm", outer)

    def mean(self, hidden: str, held: str) -> str:
        """Write the mean over the places that have a token."""
        writer, axis = self._writer, self._writer.constant(SECOND_AXIS, np.array([1]))
        last = writer.constant("last axis", np.array([2]))
        weights = writer.node("Unsqueeze", writer.cast(held, np.bool_, np.float32), last)
        total = writer.node("ReduceSum", writer.node("Mul", hidden, weights), axis, keepdims=0)
        return writer.node("Div", total, writer.node("ReduceSum", weights, axis, keepdims=0))

    def _dense(self, layer: nn.Linear, name: str, value: str) -> str:
        # Turned once and not in each run; what quantises weights finds them in this place.
        weight = self._weight(f"{name}.weight", layer.weight.t())
        product = self._writer.node("MatMul", value, weight)
        return self._writer.node("Add", product, self._weight(f"{name}.bias", layer.bias))

    def _in_heads(self, value: str, order: list[int]) -> str:
        size = np.array([0, 0, self._heads, self._width // self._heads])
        return self._writer.node(
            "Transpose", self._writer.node("Reshape", value, self._writer.constant("heads", size)), perm=order
        )

    def _normalised(self, norm: nn.LayerNorm, name: str, value: str) -> str:
        scale, shift = self._weight(f"{name}.weight", norm.weight), self._weight(f"{name}.bias", norm.bias)
        return self._writer.node("LayerNormalization", value, scale, shift, axis=-1, epsilon=self._epsilon)

    def _weight(self, name: str, values: torch.Tensor) -> str:
        return self._writer.constant(name, values.detach().cpu().contiguous().numpy())
