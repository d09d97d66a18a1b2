"""Models of language with weights of 8 or 4 bits, in GGUF's blocks of 32 that share a scale.

8 bits are Q8_0. 4 bits are Q4_1, of whose blocks each says what its 0 stands for: here a whole number of steps, which
OpenVINO's reader keeps exactly, as llama.cpp does; of its usual fractions that one makes other weights. What words
stand for keeps 8 bits, as do values of attention and what leads out of each layer, where 4 bits cost most (llama.cpp's
Q4_K_M gives half of these more bits, too). Norms stay float. Formats: ggml-common.h of https://github.com/ggml-org/ggml.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from headrace_engines.beside import Graph

from headrace_learning.graphs import Array
from headrace_learning.language_models.gguf_files import Stored, rewrite_gguf
from headrace_learning.methods.method import Made, Method, NotApplicable, Source

BLOCK: Final = 32
_LARGEST8, _LARGEST4 = 127.0, 15.0
_FACTORS: Final = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Parts of a block's range that are tried as what 15 steps span: values beyond are cut off."""
_AT_ONCE: Final = 2**22
"""Weights that are rounded at once."""
_FINE: Final = ("token_embd", "output", "attn_v", "ffn_down")
"""Weights that keep 8 bits, by the last part of their names but one."""


def rounded8(values: Array) -> Array:
    """Return the blocks of Q8_0 of weights, [rows, inputs] float32 -> [rows, bytes] uint8: scale, then 32 numbers."""
    blocks = values.reshape(-1, BLOCK)
    scales = (np.abs(blocks).max(axis=1, keepdims=True) / _LARGEST8).astype(np.float16)
    steps = np.rint(blocks / _safe(scales)).clip(-_LARGEST8, _LARGEST8).astype(np.int8)
    parts = (scales.view(np.uint8), steps.view(np.uint8))
    return np.concatenate(parts, axis=1).reshape(len(values), -1)


def rounded4(values: Array) -> Array:
    """Return the blocks of Q4_1 of weights, as `rounded8`: scale, what 0 stands for, then 32 numbers of 4 bits.

    Of some scales the one is taken that errs least in the sum of squares.
    """
    blocks = values.reshape(-1, BLOCK)
    low, high = np.minimum(blocks.min(axis=1, keepdims=True), 0), np.maximum(blocks.max(axis=1, keepdims=True), 0)
    best: Any = None
    for factor in _FACTORS:
        scales = ((high - low) * np.float32(factor / _LARGEST4)).astype(np.float16)
        zeros = np.rint(-low * np.float32(factor) / _safe(scales)).clip(0, _LARGEST4)
        steps = (np.rint(blocks / _safe(scales)) + zeros).clip(0, _LARGEST4)
        errors = np.square((steps - zeros) * scales.astype(np.float32) - blocks).sum(axis=1, keepdims=True)
        if best is None:
            best = errors, scales, zeros, steps
        else:
            better = errors < best[0]
            best = tuple(np.where(better, *pair) for pair in zip((errors, scales, zeros, steps), best, strict=True))
    _, scales, zeros, steps = best
    least = (-zeros * scales.astype(np.float32)).astype(np.float16)
    numbers = steps.astype(np.uint8)
    packed = numbers[:, : BLOCK // 2] | (numbers[:, BLOCK // 2 :] << 4)
    return np.concatenate((scales.view(np.uint8), least.view(np.uint8), packed), axis=1).reshape(len(values), -1)


def _safe(scales: Array) -> Array:
    wide = scales.astype(np.float32)
    return np.where(wide > 0, wide, np.float32(1))


def _stored(name: str, values: Array, *, bits: int) -> tuple[Array, str]:
    if values.ndim < 2:
        return values, "F32"
    is_rough = bits == 4 and name.split(".")[-2] not in _FINE
    step = max(1, _AT_ONCE // values.shape[1])
    parts = [values[start : start + step] for start in range(0, len(values), step)]
    return np.concatenate(
        [(rounded4 if is_rough else rounded8)(part) for part in parts]
    ), "Q4_1" if is_rough else "Q8_0"


def _made(source: Source, _section: Any, *, file_type: int, stored: Stored) -> Made | NotApplicable:
    with tempfile.TemporaryDirectory() as beside:
        path = Path(beside) / "model.gguf"
        rewrite_gguf(source.graph, path, file_type, stored)
        if isinstance(source.graph, bytes):
            return Made(path.read_bytes())
        made: Graph = path.rename(source.graph.with_name(f"{source.graph.stem}-{file_type}.gguf"))
    return Made(made)


Q8: Final = Method(partial(_made, file_type=7, stored=partial(_stored, bits=8)), large=True, writes=True)
Q4: Final = Method(partial(_made, file_type=3, stored=partial(_stored, bits=4)), large=True, writes=True)
