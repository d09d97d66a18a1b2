"""Generation: a text that answers a text, token by token.

How good a model is is told by what it thinks of answers that are known: the less surprised it is by each token, the
better. Answers of its own are looked at as well, of some rows and the likeliest token each time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from headrace_data.errors import DatasetUnusable
from headrace_data.tasks.gate import Gate, rise
from headrace_data.tasks.measure import Array, Measure, require_rows
from headrace_data.tasks.task import BASELINE, Always, Answers, Classes, Task

TEXT: Final = "text_output"
"""What a served model answers with: [1] text."""
NATS: Final = "nats"
"""Of answers that were measured: the negative logarithm of what the model thinks of the known one, [rows] float64."""
TOKENS: Final = "tokens"
"""The tokens of that, [rows] int64: of the text, without what ends it."""
EXACT: Final = "exact"
"""Whether the model's own answer is the known one, [rows] float64: 1 or 0, and NaN of rows that it did not answer."""
PERPLEXITY: Final = Measure("perplexity", "", "less", "perplexity", "of a token of the answers; 1 is certain")
NATS_PER_TOKEN: Final = Measure("nats_per_token", "nats", "less", "nats per token", "cross-entropy of the answers")
BITS_PER_BYTE: Final = Measure(
    "bits_per_byte", "", "less", "bits per byte", "cross-entropy of the answers, whatever their tokens are"
)
EXACT_ANSWERS: Final = Measure("exact_answers", "share", "more", "exact answers", "greedy ones that are the known one")
GREEDY_AGREEMENT: Final = "greedy_agreement"
"""Share of the tokens of fp32's greedy answers that a variant answers too, given those before."""
_LARGEST: Final = 700.0
"""Nats per token of which the perplexity is a number that there is."""
_BYTES: Final = 256


class TextScores:
    """Measurements of known answers that come batch by batch."""

    def __init__(self) -> None:
        self._nats = 0.0
        self._tokens = self._bytes = self._tried = self._exact = 0

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows; at least one. `truth` are texts."""
        nats, tokens = answers[NATS].astype(np.float64), answers[TOKENS]
        require_rows(nats, truth)
        self._nats += float(nats.sum())
        self._tokens += int(tokens.sum())
        self._bytes += sum(len(text.encode()) for text in truth)
        if EXACT in answers:
            tried = ~np.isnan(answers[EXACT])
            self._tried += int(tried.sum())
            self._exact += int(answers[EXACT][tried].sum())

    def quality(self) -> dict[str, float]:
        """Return the measures; none of rows without a token, and exact answers where some were tried."""
        if not self._tokens:
            return {}
        per_token = self._nats / self._tokens
        found = {
            PERPLEXITY: math.exp(min(per_token, _LARGEST)),
            NATS_PER_TOKEN: per_token,
            BITS_PER_BYTE: self._nats / math.log(2) / max(self._bytes, 1),
        }
        if self._tried:
            found[EXACT_ANSWERS] = self._exact / self._tried
        return {measure.name: value for measure, value in found.items()}

    def metrics(self) -> dict[str, float]:
        """Return the same: no part of the rows is measured by itself."""
        return self.quality()


class Bytes:
    """How often each byte of the answers follows which other, as a model of their texts that knows nothing else."""

    def __init__(self) -> None:
        self._pairs = np.zeros((_BYTES + 1, _BYTES))
        """By the byte before, of which the last stands for the beginning of a text."""

    def add(self, labels: Array) -> None:
        """Add the answers of some rows."""
        np.add.at(self._pairs, _pairs(labels), 1.0)

    def baseline(self) -> Always:
        """Return what measures the guess of each byte by the one before it."""
        if not self._pairs.any():
            raise DatasetUnusable("train.task generation: expected answers with texts in the training split, got none")
        # Each byte may come, and one that never came behind another is as likely there as anywhere.
        anywhere = (self._pairs.sum(axis=0) + 1) / (self._pairs.sum() + _BYTES)
        behind = (self._pairs + anywhere) / (self._pairs.sum(axis=1, keepdims=True) + 1)
        return _GuessedBytes(-np.log2(behind))


class _GuessedBytes(Always):
    """Bits of each byte by the one before it, over answers that come batch by batch."""

    def __init__(self, bits: Array) -> None:
        self._bits = bits
        self._sum = 0.0
        self._count = 0

    def add(self, truth: Array) -> None:
        """Add the answers of some rows; at least one."""
        before, after = _pairs(truth)
        self._sum += float(self._bits[before, after].sum())
        self._count += len(after)

    def metrics(self) -> dict[str, float]:
        """Return baseline_bits_per_byte: perplexity is of tokens, which it knows none of."""
        return {f"{BASELINE}{BITS_PER_BYTE.name}": self._sum / max(self._count, 1)}


def _pairs(texts: Sequence[str] | Array) -> tuple[Array, Array]:
    """Return each byte of texts behind the one before it, both [bytes] int64."""
    held = [np.frombuffer(text.encode(), np.uint8).astype(np.int64) for text in texts]
    beginning = np.array([_BYTES])
    before = [np.concatenate([beginning, each[:-1]]) for each in held if len(each)]
    empty = np.empty(0, np.int64)
    return np.concatenate([empty, *before]), np.concatenate([empty, *held])


class Generation(Task):
    """A text that answers a text."""

    kind = "generation"
    answer = "a text, of a label that is one: what a prompt is answered with, token by token"
    unfit = frozenset({"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64"})
    answers_texts = True
    heeds = frozenset[str]()
    outputs = (TEXT,)
    headline = PERPLEXITY
    loss = NATS_PER_TOKEN
    measured = (PERPLEXITY, BITS_PER_BYTE, NATS_PER_TOKEN, EXACT_ANSWERS)
    beside = BITS_PER_BYTE.name
    always = "guessing each byte of an answer by the one before it"
    gates = (
        rise(PERPLEXITY, "perplexityRise", "perplexity_rise"),
        Gate(
            "greedyAgreement",
            "greedy_agreement",
            lambda own, _: own.get(GREEDY_AGREEMENT, math.nan),
            1.0,
            at_least=True,
        ),
    )

    def labels(self, train: Any, places: Classes = ()) -> Bytes:
        """Return what takes note of the bytes of the answers."""
        return Bytes()

    def judged_by(self, measure: Measure) -> Measure:
        """Return bits per byte, whatever a pipeline chose: the baseline knows of no tokens."""
        return BITS_PER_BYTE

    def scores(
        self, classes: Classes, positive: int | str | None = None, compared: Classes = (), steps: Classes = ()
    ) -> TextScores:
        """Return what measures answers."""
        return TextScores()
