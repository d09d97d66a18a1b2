"""The sizes of a model of the kind of Llama, whoever wrote them down: layers, widths, heads and places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace_learning.errors import NotLearnable

ARCHITECTURES: Final = ("llama", "qwen2")
"""Kinds that are read, as GGUF and Hugging Face both call them. Qwen2 has biases in the attention."""
BLOCK: Final = 32
"""Numbers of a row that share a scale where it has fewer bits."""
_MOST: Final = 2**24
_SIZES: Final = {
    "width": "hidden_size",
    "inner": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "groups": "num_key_value_heads",
    "vocabulary": "vocab_size",
    "places": "max_position_embeddings",
}
"""What they are called in a `config.json`."""


@dataclass(frozen=True)
class Shape:
    """Of one model."""

    architecture: str
    width: int
    """Numbers that stand for a token between layers."""
    inner: int
    """Units of the wide part of a layer."""
    layers: int
    heads: int
    groups: int
    """Heads of keys and values, each for several of queries."""
    vocabulary: int
    """Tokens that it tells apart."""
    places: int
    """Most tokens of a text."""
    epsilon: float
    """What is added where norms divide."""
    theta: float
    """Base of the rotations that tell places."""
    tied: bool
    """Whether tokens are told by what they are read as: no matrix of their own."""

    def __post_init__(self) -> None:
        for name, told in _SIZES.items():
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or not 0 < size < _MOST:
                raise NotLearnable(f"train.network.digest: expected {told} above 0, got {size!r}")
        if self.width % self.heads or self.heads % self.groups or (self.width // self.heads) % 2:
            raise NotLearnable(f"train.network.digest: expected hidden_size in equal parts for the heads, got {self}")
        if self.width % BLOCK or self.inner % BLOCK:
            raise NotLearnable(
                f"train.network.digest: expected hidden_size and intermediate_size in blocks of {BLOCK}, got {self}"
            )
        for name in ("epsilon", "theta"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise NotLearnable(f"train.network.digest: expected a number above 0 as {name}, got {value!r}")

    @property
    def head_width(self) -> int:
        """Numbers of a head."""
        return self.width // self.heads

    @property
    def numbers(self) -> int:
        """How many numbers its weights are, but for biases."""
        attention = 2 * self.width * self.width + 2 * self.width * self.groups * self.head_width
        layer = attention + 3 * self.width * self.inner + 2 * self.width
        return self.layers * layer + self.width + (1 if self.tied else 2) * self.vocabulary * self.width

    @staticmethod
    def of_config(plain: Any) -> Shape:
        """Return the sizes of a `config.json`. Raises NotLearnable for a model of another kind."""
        kind = plain.get("model_type") if isinstance(plain, dict) else None
        if kind not in ARCHITECTURES:
            raise NotLearnable(
                f"train.network.digest: expected config.json of model_type {' or '.join(ARCHITECTURES)}, got {kind!r}"
            )
        _require_plain(plain)
        sizes = {name: plain.get(told) for name, told in _SIZES.items()}
        sizes["groups"] = sizes["groups"] or sizes["heads"]
        rope = plain.get("rope_parameters") or {}
        theta = plain.get("rope_theta") or rope.get("rope_theta") or 10_000.0
        return Shape(
            architecture=kind,
            **sizes,
            epsilon=plain.get("rms_norm_eps", 1e-6),
            theta=theta,
            tied=bool(plain.get("tie_word_embeddings", False)),
        )

    def config(self) -> dict[str, Any]:
        """Return what transformers is told."""
        told: dict[str, Any] = {name: getattr(self, own) for own, name in _SIZES.items()}
        rope = {"rope_type": "default", "rope_theta": self.theta}
        return told | {"rms_norm_eps": self.epsilon, "rope_parameters": rope, "tie_word_embeddings": self.tied}


def _require_plain(plain: Mapping[str, Any]) -> None:
    """Raise NotLearnable for a model that computes something else than its sizes say."""
    rope = plain.get("rope_parameters") or plain.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    width, heads = plain.get("hidden_size"), plain.get("num_attention_heads")
    own = width // heads if isinstance(width, int) and isinstance(heads, int) and heads else None
    for name, given, wanted in (
        ("rope_type", kind, "default"),
        ("hidden_act", plain.get("hidden_act", "silu"), "silu"),
        ("mlp_bias", plain.get("mlp_bias", False), False),
        ("attention_bias", plain.get("attention_bias", False), False),
        ("use_sliding_window", plain.get("use_sliding_window", False), False),
        ("head_dim", plain.get("head_dim") or own, own),
    ):
        if given != wanted:
            raise NotLearnable(f"train.network.digest: expected {name} {wanted} in config.json, got {given!r}")
