"""GGUF: a model of language in one file, with its sizes, its tokenizer and its chat template.

The format is that of llama.cpp (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), by its package gguf. Of the
rotations Llama's files have the two numbers of a pair side by side and Hugging Face half a head apart: rows of queries
and keys are put in the other order, as llama.cpp's converter does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from headrace_engines.adapter_files import is_adapter, read_adapter
from headrace_engines.adapters import MATRICES, base_of
from headrace_engines.beside import Graph
from headrace_engines.gguf_reading import read_gguf as read_metadata
from headrace_engines.gguf_tokens import TextTokens

from headrace_learning.errors import NotLearnable
from headrace_learning.graphs import Array
from headrace_learning.language_models.shape import ARCHITECTURES, Shape
from headrace_learning.language_models.words import Words, cut_of_gguf
from headrace_learning.libraries import library

_FILE: Final = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
_HEAD: Final = ("lm_head.weight", "output.weight")
_LAYER: Final = {
    **{f"{own}.weight": f"{told}.weight" for own, told in MATRICES.items()},
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
}
_BIASES: Final = {f"self_attn.{each}_proj.bias": f"attn_{each}.bias" for each in "qkv"}
_NORMAL, _CONTROL, _USER, _UNUSED = 1, 3, 4, 5
"""Kinds of tokens, by GGUF's numbers."""
_KIND, _FILE_TYPE = "general.architecture", "general.file_type"
_PROMPT: Final = ("headrace.prompt", "headrace.prompt.fill", "headrace.prompt.beginning")
_LARGEST_HALF: Final = 65_504.0


Stored = Callable[[str, Array], tuple[Array, str]]


def names_of(shape: Shape) -> dict[str, str]:
    """Return what GGUF calls each tensor, by its name in transformers."""
    layer = _LAYER | (_BIASES if shape.architecture == "qwen2" else {})
    names = dict(_FILE) if shape.tied else _FILE | {_HEAD[0]: _HEAD[1]}
    for place in range(shape.layers):
        names |= {f"model.layers.{place}.{own}": f"blk.{place}.{told}" for own, told in layer.items()}
    return names


def read_gguf(data: bytes) -> tuple[Shape, dict[str, Array], Words]:
    """Return sizes, weights as float32 by their names in transformers, and words. Raises NotLearnable."""
    gguf: Any = library("gguf", "generation")
    with _as_file(data) as file:
        try:
            reader = gguf.GGUFReader(file)
            told = {name: field.contents() for name, field in reader.fields.items()}
            shape, words = _shape(told, {each.name for each in reader.tensors}), _words(told)
            wanted = {told: own for own, told in names_of(shape).items()}
            tensors = {
                wanted[each.name]: np.array(gguf.dequantize(each.data, each.tensor_type), np.float32)
                for each in reader.tensors
                if each.name in wanted
            }
        except NotLearnable:
            raise
        except Exception as error:  # a file that is damaged fails in the reader somewhere
            raise NotLearnable(f"train.network.digest: expected a whole GGUF file, got {error!r}") from error
    for name in tensors:
        tensors[name] = _permuted(name, tensors[name], shape, back=True)
    return shape, tensors, words


@dataclass(frozen=True)
class Prompt:
    """What stands before an answer, as the file says it for who measures it by rows."""

    feature: str
    """Name of the feature that is answered; empty where nothing is, and the answer is a text by itself."""
    fill: str
    """Stands for a missing one."""
    beginning: str
    """What such a text stands behind."""


def prompt_of(graph: Graph) -> Prompt:
    """Return what a file says of its prompts."""
    told = read_adapter(graph).prompt if is_adapter(graph) else read_metadata(graph).metadata
    return Prompt(*(str(told.get(key, "")) for key in _PROMPT))


def prompt_told(prompt: Prompt) -> dict[str, str]:
    """Return what a file says of its prompts, by its keys."""
    return dict(zip(_PROMPT, astuple(prompt), strict=True))


def bytes_of_tokens(graph: Graph) -> Callable[[Sequence[int]], bytes]:
    """Return what makes bytes of a file's tokens."""
    parts = TextTokens(read_metadata(base_of(graph))).parts
    return lambda tokens: b"".join(parts[token] for token in tokens)


def write_gguf(path: Path, shape: Shape, tensors: Mapping[str, Array], words: Words, prompt: Prompt) -> None:
    """Write a model; the same bytes for the same numbers. `tensors` are float32, by their names in transformers."""
    gguf: Any = library("gguf", "generation")
    writer = gguf.GGUFWriter(path, shape.architecture)
    for add, value in _sizes_told(writer, shape):
        add(value)
    _write_words(writer, words, shape.vocabulary)
    for key, text in prompt_told(prompt).items():
        writer.add_string(key, text)
    writer.add_quantization_version(2)
    for own, name in names_of(shape).items():
        values = _permuted(own, np.asarray(tensors[own], np.float32), shape, back=False)
        if values.ndim > 1 and not float(np.abs(values).max(initial=0.0)) <= _LARGEST_HALF:
            raise NotLearnable(
                f"{own}: expected weights of at most {_LARGEST_HALF:g}, which GGUF's F16 holds, got others"
            )
        # Engines take norms as float32, and matrices with half the digits.
        writer.add_tensor(name, np.ascontiguousarray(values.astype(np.float16) if values.ndim > 1 else values))
    _finish(writer)


def rewrite_gguf(graph: Graph, path: Path, file_type: int, stored: Stored) -> None:
    """Write a file anew with other kinds of numbers, one tensor after the other.

    `stored` takes the name of a tensor and its values, float32, and returns what is written of it, and its kind as
    GGUF calls it. What the file says beside tensors stays.
    """
    gguf: Any = library("gguf", "generation")
    with _as_file(graph) as source:
        reader = gguf.GGUFReader(source)
        writer = gguf.GGUFWriter(path, reader.fields[_KIND].contents())
        for name, field in reader.fields.items():
            if name.startswith("GGUF.") or name == _KIND:
                continue
            value = file_type if name == _FILE_TYPE else field.contents()
            writer.add_key_value(
                name, value, field.types[0], sub_type=field.types[-1] if len(field.types) > 1 else None
            )
        for each in reader.tensors:
            data, kind = stored(each.name, np.array(gguf.dequantize(each.data, each.tensor_type), np.float32))
            writer.add_tensor(each.name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
        _finish(writer)


@contextmanager
def _as_file(graph: Graph) -> Iterator[Path]:
    """Give a graph as a file."""
    if isinstance(graph, Path):
        yield graph
        return
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(graph)
        file.flush()
        yield Path(file.name)


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _sizes_told(writer: Any, shape: Shape) -> Iterator[tuple[Any, Any]]:
    yield from (
        (writer.add_vocab_size, shape.vocabulary),
        (writer.add_context_length, shape.places),
        (writer.add_embedding_length, shape.width),
        (writer.add_block_count, shape.layers),
        (writer.add_feed_forward_length, shape.inner),
        (writer.add_rope_dimension_count, shape.head_width),
        (writer.add_head_count, shape.heads),
        (writer.add_head_count_kv, shape.groups),
        (writer.add_layer_norm_rms_eps, shape.epsilon),
        (writer.add_rope_freq_base, shape.theta),
        (writer.add_file_type, 1),
    )


def _write_words(writer: Any, words: Words, vocabulary: int) -> None:
    kinds = [
        _NORMAL if words.added.get(token) is None else _CONTROL if words.added[token] else _USER
        for token in words.tokens
    ]
    unused = [f"[PAD{place}]" for place in range(len(words.tokens), vocabulary)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.cut)
    writer.add_token_list([*words.tokens, *unused])
    writer.add_token_types([*kinds, *[_UNUSED] * len(unused)])
    writer.add_token_merges(list(words.merges))
    if words.begin is not None:
        writer.add_bos_token_id(words.places[words.begin])
    writer.add_eos_token_id(words.places[words.end])
    writer.add_pad_token_id(words.places[words.end])
    writer.add_add_bos_token(words.prefixed)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(words.template)


def _shape(told: Mapping[str, Any], tensors: set[str]) -> Shape:
    kind = told.get(_KIND)
    if kind not in ARCHITECTURES:
        raise NotLearnable(f"train.network.digest: expected GGUF of {' or '.join(ARCHITECTURES)}, got {kind!r}")
    if any(name.startswith(f"{kind}.rope.scaling") for name in told) or "rope_freqs.weight" in tensors:
        raise NotLearnable("train.network.digest: expected rotations as they are, got scaled ones")

    def size(name: str, otherwise: Any = None) -> Any:
        return told.get(f"{kind}.{name}", otherwise)

    heads = size("attention.head_count")
    return Shape(
        architecture=kind,
        width=size("embedding_length"),
        inner=size("feed_forward_length"),
        layers=size("block_count"),
        heads=heads,
        groups=size("attention.head_count_kv", heads),
        vocabulary=size("vocab_size", len(told.get("tokenizer.ggml.tokens", []))),
        places=size("context_length"),
        epsilon=size("attention.layer_norm_rms_epsilon", 1e-6),
        theta=size("rope.freq_base", 10_000.0),
        tied=_HEAD[1] not in tensors,
    )


def _words(told: Mapping[str, Any]) -> Words:
    def of(name: str, otherwise: Any = None) -> Any:
        return told.get(f"tokenizer.ggml.{name}", otherwise)

    if of("model") != "gpt2":
        raise NotLearnable(f"train.network.digest: expected a byte-level BPE (gpt2) in the file, got {of('model')!r}")
    tokens, kinds = list(of("tokens", [])), list(of("token_type", []))
    while kinds and kinds[-1] == _UNUSED:
        tokens.pop(), kinds.pop()
    begin, end = of("bos_token_id"), of("eos_token_id")
    if len(set(tokens)) != len(tokens) or not isinstance(end, int) or not 0 <= end < len(tokens):
        raise NotLearnable("train.network.digest: expected tokens, each once, and the one that ends a text")
    return Words(
        tokens=tuple(tokens),
        merges=tuple(of("merges", [])),
        added={
            token: kind == _CONTROL for token, kind in zip(tokens, kinds, strict=False) if kind in (_CONTROL, _USER)
        },
        cut=cut_of_gguf(of("pre", "default")),
        begin=tokens[begin] if isinstance(begin, int) and 0 <= begin < len(tokens) else None,
        end=tokens[end],
        template=told.get("tokenizer.chat_template") or "",
        prefixed=bool(of("add_bos_token", False)),
    )


def _permuted(name: str, values: Array, shape: Shape, *, back: bool) -> Array:
    """Return the rows of Llama's queries and keys in GGUF's order, or back in transformers'."""
    heads = {"q_proj.weight": shape.heads, "k_proj.weight": shape.groups}
    count = next((found for end, found in heads.items() if name.endswith(end)), None)
    if count is None or shape.architecture != "llama":
        return values
    parts: Sequence[int] = (count, -1, 2) if back else (count, 2, -1)
    return values.reshape(*parts, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
