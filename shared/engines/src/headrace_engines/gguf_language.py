"""Whether a GGUF file is a model of language that the engine here computes as its authors meant it, and its sizes.

The engine believes the file: what is missing ends its process, and what it does not know, such as a scaling of
positions, it leaves out without a word and answers wrongly. So a file that says more than is known here is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headrace_engines.errors import NotAModel
from headrace_engines.gguf_reading import F32, I32, U32, GgufFile, StoredTensor

ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")
_MOST_LAYERS, _LARGEST = 1_000, 1_000_000
_MATRICES: Final = frozenset({"F16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"})
_VECTORS: Final = frozenset({"F32", "F16"})
_UNKNOWN: Final = (
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "attention.sliding_window",
    "expert_count",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
    "attention.scale",
)
"""Keys of an architecture that change what is computed, and that the engine does not look at."""
_PLAIN: Final = (0, 0.0, 1.0, "", "none")
"""What such a key may say all the same: nothing."""
_TOKENIZER: Final = "tokenizer."


@dataclass(frozen=True, slots=True)
class Language:
    """The sizes of a model of language."""

    architecture: str
    layers: int
    heads: int
    key_heads: int
    """How many heads have keys and values of their own."""
    head_size: int
    context: int
    """Most tokens that it has learned to read."""
    tokens: int
    """How many there are in its vocabulary."""
    has_whole_weights: bool
    """Whether its weights are numbers of 16 bits, and none of fewer."""


def language_of(file: GgufFile) -> Language:
    """Return the sizes of a model of language. Raises NotAModel for any other file, naming the key or tensor."""
    architecture = file.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise NotAModel(f"general.architecture: expected {', '.join(ARCHITECTURES)}, got {architecture!r}")
    keys = _Keys(file, str(architecture))
    heads, width = keys.size("attention.head_count"), keys.size("embedding_length")
    head_size = keys.size("attention.key_length", width // heads)
    embedding = file.tensors.get("token_embd.weight")
    found = Language(
        architecture=str(architecture),
        layers=keys.size("block_count", most=_MOST_LAYERS),
        heads=heads,
        key_heads=keys.size("attention.head_count_kv", heads),
        head_size=head_size,
        context=keys.size("context_length", most=2**31 - 1),
        tokens=embedding.shape[0] if embedding else 0,
        has_whole_weights=all(tensor.type.numbers == 1 for tensor in file.tensors.values()),
    )
    if head_size % 2 or heads % found.key_heads:
        raise NotAModel(
            f"expected heads of an even size, a multiple of those with keys, got {heads} of {head_size}"
            f" with {found.key_heads}"
        )
    _require_known(file, keys)
    _require_tensors(file, found, width, keys.size("feed_forward_length"))
    return found


class _Keys:
    """The keys of an architecture, each of the type that the engine reads."""

    def __init__(self, file: GgufFile, architecture: str) -> None:
        self.file, self.prefix = file, f"{architecture}."
        for key in ("attention.layer_norm_rms_epsilon", "rope.freq_base"):
            name = self.prefix + key
            if file.kinds.get(name, F32 if key.startswith("rope") else None) != F32:
                raise NotAModel(f"{name}: expected an f32, got {file.metadata.get(name)}")
        if file.kinds.get("general.file_type") != U32:
            raise NotAModel(f"general.file_type: expected a u32, got {file.metadata.get('general.file_type')}")

    def size(self, key: str, otherwise: int | None = None, most: int = _LARGEST) -> int:
        name = self.prefix + key
        if name not in self.file.metadata and otherwise is not None:
            return otherwise
        found = self.file.metadata.get(name)
        if self.file.kinds.get(name) not in (U32, I32) or not isinstance(found, int) or not 1 <= found <= most:
            raise NotAModel(f"{name}: expected a whole number of 32 bits, 1 to {most}, got {found}")
        return found


def _require_known(file: GgufFile, keys: _Keys) -> None:
    for key in _UNKNOWN:
        if (told := file.metadata.get(keys.prefix + key, 0)) not in _PLAIN:
            raise NotAModel(f"{keys.prefix}{key}: expected none, since the engine does not heed it, got {told}")
    if "split.count" in file.metadata:
        raise NotAModel("split.count: expected a model in one file, got a part of one")
    # The engine knows the tokenizer's keys by their last word.
    words = [key.rpartition(".")[2] for key in file.metadata if key.startswith(_TOKENIZER)]
    if len(set(words)) < len(words):
        raise NotAModel("tokenizer: expected keys of different last words, got one twice")


def _require_tensors(file: GgufFile, model: Language, width: int, inner: int) -> None:
    expected = dict(_tensors(model, width, inner))
    optional = {"output.weight": (model.tokens, width)} | dict(_optional(model))
    for name, tensor in file.tensors.items():
        shape = expected.get(name) or optional.get(name)
        if shape is None:
            raise NotAModel(f"{name}: expected no such tensor in a model of {model.architecture}")
        _require_tensor(name, tensor, shape)
    if missing := [name for name in expected if name not in file.tensors]:
        raise NotAModel(f"expected tensors {', '.join(missing[:3])}, got none of {len(missing)}")


def _require_tensor(name: str, tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    kinds = _MATRICES if len(shape) > 1 else _VECTORS
    if tensor.shape != shape:
        raise NotAModel(f"{name}: expected a shape of {shape}, got {tensor.shape}")
    if tensor.type.name not in kinds:
        raise NotAModel(f"{name}: expected {', '.join(sorted(kinds))}, got {tensor.type.name}")


def _tensors(model: Language, width: int, inner: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (model.tokens, width)
    yield "output_norm.weight", (width,)
    queries, keys = model.heads * model.head_size, model.key_heads * model.head_size
    for layer in range(model.layers):
        for name, shape in (
            ("attn_norm", (width,)),
            ("ffn_norm", (width,)),
            ("attn_q", (queries, width)),
            ("attn_k", (keys, width)),
            ("attn_v", (keys, width)),
            ("attn_output", (width, queries)),
            ("ffn_gate", (inner, width)),
            ("ffn_up", (inner, width)),
            ("ffn_down", (width, inner)),
        ):
            yield f"blk.{layer}.{name}.weight", shape
        if model.architecture == "qwen3":
            yield f"blk.{layer}.attn_q_norm.weight", (model.head_size,)
            yield f"blk.{layer}.attn_k_norm.weight", (model.head_size,)


def _optional(model: Language) -> Iterator[tuple[str, tuple[int, ...]]]:
    queries, keys = model.heads * model.head_size, model.key_heads * model.head_size
    for layer in range(model.layers):
        for name, size in (("attn_q", queries), ("attn_k", keys), ("attn_v", keys)):
            yield f"blk.{layer}.{name}.bias", (size,)
