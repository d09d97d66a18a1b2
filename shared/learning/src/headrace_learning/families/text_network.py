"""An encoder of language with a head: the tokens of texts in, numbers out."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from headrace_data.spec.feature_rules import EMBEDDING
from torch import nn
from torch.nn import functional

from headrace_learning.families.bert_graph import write_encoder
from headrace_learning.writer import SECOND_AXIS, Writer

_MEASURED_TOKENS = 4_096
"""Tokens that a forward pass without gradients takes at once."""


class TextNetwork(nn.Module):
    """BERT, the mean of its last layer over the tokens of a row or its first place, and one linear layer.

    A row is [length] float32: the numbers of tokens, which float32 holds exactly, and -1 behind the last. Of a pair it
    is [2 * length]: the tokens of the first text, then those of the second, each in their places of the row and -1 in
    those of the other.
    """

    def __init__(
        self, encoder: nn.Module, width: int, pooling: str, outputs: int, texts: int, *, embedding: bool
    ) -> None:
        """Build a head on `encoder`, a `BertModel` of transformers whose layers are `width` wide.

        A row has one text, or two. With `embedding` it answers the embeddings of rows too.
        """
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.outputs = outputs
        self.texts = texts
        self.embedding = embedding
        self.head = nn.Linear(width, outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Answer rows, [batch, texts * length] float32: [batch, outputs] float32."""
        if torch.is_grad_enabled():
            return self._answers(inputs)
        return torch.cat([self._answers(part) for part in pieces(inputs)])

    def _answers(self, inputs: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.head(self.pooled(inputs))
        return answers

    def pooled(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the encoder makes of rows, [batch, texts * length] float32: [batch, width] float32."""
        read, held = self._read(inputs)
        return self._over_tokens(read.last_hidden_state, held)

    def pooled_layers(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what each layer of the encoder makes of rows: [batch, layers, width], the last one as `pooled`."""
        read, held = self._read(inputs, output_hidden_states=True)
        return torch.stack([self._over_tokens(hidden, held) for hidden in read.hidden_states[1:]], dim=1)

    def _read(self, inputs: torch.Tensor, **wanted: bool) -> tuple[Any, torch.Tensor]:
        """Return what the encoder answers to rows, and which of their places hold a token, [batch, tokens]."""
        each = inputs.view(len(inputs), self.texts, -1)
        inputs = each.amax(dim=1)
        # No row is longer: what lies behind has no part in an answer, and would cost as much as a token.
        longest = max(int((inputs >= 0).sum(dim=1).max()), 1)
        tokens = inputs[:, :longest].to(torch.int64)
        held = tokens >= 0
        kinds = (each[:, 1, :longest] >= 0).to(torch.int64) if self.texts > 1 else torch.zeros_like(tokens)
        mask = held.to(torch.int64)
        read = self.encoder(input_ids=tokens.clamp(min=0), attention_mask=mask, token_type_ids=kinds, **wanted)
        return read, held

    def _over_tokens(self, hidden: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        if self.pooling == "cls":
            return hidden[:, 0]
        weights = held.unsqueeze(2).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)

    def beside(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the embeddings of rows where they are answered: what the head is given, with a length of 1."""
        return {EMBEDDING: functional.normalize(pooled_rows(self, inputs))} if self.embedding else {}

    def write(self, writer: Writer, value: str) -> str:
        """Write itself behind rows of any length, [batch, texts * tokens] float32; return the name of the answers."""
        pooled = write_encoder(self.encoder, self.pooling, self.texts, writer, value)
        if self.embedding:
            writer.beside[EMBEDDING] = (_write_normalised(writer, pooled), self.head.in_features)
        weight, bias = (
            writer.constant(f"network.head.{name}", values.detach().numpy())
            for name, values in (("weight", self.head.weight), ("bias", self.head.bias))
        )
        return writer.node("Gemm", pooled, weight, bias, transB=1)


def _write_normalised(writer: Writer, value: str) -> str:
    """Write rows with a length of 1, as `torch.nn.functional.normalize` makes them."""
    length = writer.node("ReduceL2", value, writer.constant(SECOND_AXIS, np.array([1])), keepdims=1)
    return writer.node("Div", value, writer.node("Max", length, writer.constant("least length", np.float32(1e-12))))


@torch.no_grad()
def pooled_rows(network: TextNetwork, inputs: torch.Tensor) -> torch.Tensor:
    """Return what the encoder makes of many rows."""
    return torch.cat([network.pooled(part) for part in pieces(inputs)])


def pieces(inputs: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield rows, as many at a time as a forward pass without gradients takes."""
    yield from torch.split(inputs, max(_MEASURED_TOKENS // inputs.shape[1], 1))
