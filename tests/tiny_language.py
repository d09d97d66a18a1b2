"""Writes a model of language of a few thousand random weights, with a tokenizer and a chat template, as a GGUF file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import numpy as np
import safetensors.numpy
import tokenizers
from headrace_engines.adapter_files import ADAPTER
from headrace_engines.adapters import DOWN, MATRICES, PREFIX, UP
from tokenizers import models, pre_tokenizers, trainers

Array = np.ndarray[Any, Any]
WIDTH, INNER, LAYERS, HEADS, KEY_HEADS, CONTEXT = 64, 96, 2, 2, 1, 256
EPSILON, BASE = 1e-5, 10_000.0
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEXTS = ("the river turns the wheel and the wheel turns the mill", "who turns the mill? the river does, all day long")


def tiny_gguf(kind: str = "F16", seed: int = 0, **changes: Any) -> bytes:
    """Return the file of a random model: `kind` is the type of its matrices; `changes` are other keys of it.

    A change to None leaves the key out.
    """
    tokenizer = tiny_tokenizer()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        writer = gguf.GGUFWriter(str(path), changes.pop("general.architecture", "llama"))
        _write_keys(writer, tokenizer, kind, changes)
        for name, values in tiny_weights(seed, tokenizer.get_vocab_size()).items():
            stored = gguf.GGMLQuantizationType.F32 if values.ndim == 1 else gguf.GGMLQuantizationType[kind]
            rows = _permuted(name, values)
            writer.add_tensor(name, gguf.quants.quantize(rows, stored), raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def tiny_adapter(base: bytes, seed: int = 0, rank: int = 2, size: float = 0.3, **config: Any) -> bytes:
    """Return a random adapter of such a model, with alpha twice the rank; `config` are other keys of PEFT's."""
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        for own, name in MATRICES.items():
            outputs, inputs = tiny_weights(0, 1)[f"blk.{layer}.{name}.weight"].shape
            place = f"{PREFIX}{layer}.{own}"
            tensors[f"{place}.{DOWN}"] = random.standard_normal((rank, inputs)).astype(np.float32)
            tensors[f"{place}.{UP}"] = (random.standard_normal((outputs, rank)) * size / 8).astype(np.float32)
    told = {
        "base": f"sha256:{hashlib.sha256(base).hexdigest()}",
        "baseBytes": len(base),
        "prompt": {},
        "config": {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, **config},
    }
    return bytes(safetensors.numpy.save(tensors, {ADAPTER: json.dumps(told)}))


def tiny_weights(seed: int, tokens: int) -> dict[str, Array]:
    """Return the weights by the names of the format, before the rows of queries and keys are put in its order."""
    random = np.random.default_rng(seed)
    head = WIDTH // HEADS

    def matrix(rows: int, columns: int) -> Array:
        values: Array = random.standard_normal((rows, columns)) / np.sqrt(columns)
        return values.astype(np.float32)

    found = {"token_embd.weight": matrix(tokens, WIDTH), "output_norm.weight": np.ones(WIDTH, np.float32) * 1.5}
    for layer in range(LAYERS):
        of = f"blk.{layer}"
        found |= {
            f"{of}.attn_norm.weight": random.uniform(0.5, 1.5, WIDTH).astype(np.float32),
            f"{of}.ffn_norm.weight": random.uniform(0.5, 1.5, WIDTH).astype(np.float32),
            f"{of}.attn_q.weight": matrix(HEADS * head, WIDTH),
            f"{of}.attn_k.weight": matrix(KEY_HEADS * head, WIDTH),
            f"{of}.attn_v.weight": matrix(KEY_HEADS * head, WIDTH),
            f"{of}.attn_output.weight": matrix(WIDTH, HEADS * head),
            f"{of}.ffn_gate.weight": matrix(INNER, WIDTH),
            f"{of}.ffn_up.weight": matrix(INNER, WIDTH),
            f"{of}.ffn_down.weight": matrix(WIDTH, INNER),
        }
    return found


def tiny_tokenizer() -> Any:
    """Return a byte-level BPE that was trained on two sentences."""
    tokenizer: Any = tokenizers.Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=288, special_tokens=list(SPECIAL), initial_alphabet=sorted(alphabet), show_progress=False
        ),
    )
    return tokenizer


def _write_keys(writer: Any, tokenizer: Any, kind: str, changes: dict[str, Any]) -> None:
    told = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = told["vocab"]
    keys: dict[str, Any] = {
        "general.file_type": int({"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7}.get(kind, 1)),
        "llama.block_count": LAYERS,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KEY_HEADS,
        "llama.rope.freq_base": BASE,
        "llama.attention.layer_norm_rms_epsilon": EPSILON,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": sorted(vocabulary, key=vocabulary.__getitem__),
        "tokenizer.ggml.token_type": [3 if number < len(SPECIAL) else 1 for number in range(len(vocabulary))],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in told["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    } | changes
    for key, value in keys.items():
        if value is not None:
            _write_key(writer, key, value)


def _write_key(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)


def _permuted(name: str, values: Any) -> Any:
    """Return rows of queries and keys in the order that the format has for the architecture llama."""
    heads = {"attn_q": HEADS, "attn_k": KEY_HEADS}.get(name.split(".")[-2], 0)
    if not heads:
        return values
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
