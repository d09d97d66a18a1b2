"""A model of language as what it learned alone: an adapter, beside the model that it began with.

A version that was tuned by low-rank differences (Hu et al., "LoRA", ICLR 2022) is its base and a product of two thin
matrices for each matrix of a layer. What it has learned is found again as the difference of the two, whose rank is
small: by projection on a few random directions (Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM
Review 2011, algorithm 4.1), then a singular value decomposition of what is left. So a version that learned on from
another one (`train.from`), and has the differences of both, is an adapter of the same base.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from headrace_data.spec import CausalLanguageModel
from headrace_engines.adapter_files import ADAPTER
from headrace_engines.adapters import DOWN, MATRICES, PREFIX, UP
from headrace_engines.beside import total_bytes

from headrace_learning.language_models.base import LanguageBase
from headrace_learning.language_models.gguf_files import Prompt, prompt_of, prompt_told, write_gguf
from headrace_learning.methods.method import Made, Method, NotApplicable, Source, Training

Matrix = npt.NDArray[np.float32]
_LAYERS: Final = "model.layers."
_SPARE: Final = 8
"""Directions that are looked at beside those that are expected."""
_LEFT_OUT: Final = 1e-3
"""What a product may leave out of a difference, as a share of it."""
_ROUNDING: Final = 4 * 2.0**-24
"""What adding a difference to a weight rounds away, as a share of the weight, and some more."""
_COPIES: Final = 5
"""What is in memory at once, as a multiple of the version's file, whose numbers are 16 bits wide."""


class _Other(Exception):
    """The version is no low-rank difference of its base."""


def _made(source: Source, section: Any) -> Made | NotApplicable:
    training = source.training
    network = training.pipeline.train.network if training else None
    if training is None or not isinstance(network, CausalLanguageModel) or network.tune != "lora":
        told = getattr(network, "kind", "none")
        return NotApplicable(f"{section.kind}: expected a causal-lm with tune: lora, got {told} without")
    if training.weights is None or training.folder is None:
        return NotApplicable(f"{section.kind}: expected a version with its weights, got one without")
    if (needed := _COPIES * total_bytes(source.graph)) > training.memory_bytes:
        held = f"{training.memory_bytes:,}"
        return NotApplicable(f"{section.kind}: expected {needed:,} bytes of memory for both models, got {held}")
    base = LanguageBase.read(network, training.artifacts)
    try:
        factors = dict(_factors(base, training, network.rank))
    except _Other as error:
        return NotApplicable(f"{section.kind}: {error}")
    kept, size = _kept(base, training.folder)
    rank = max(up.shape[1] for _, up in factors.values())
    told = {"base": kept, "baseBytes": size, "prompt": prompt_told(prompt_of(source.graph)), "config": _config(rank)}
    return Made(_written(factors, rank, told, training.folder), {"base": kept, "rank": str(rank)})


def _factors(base: LanguageBase, training: Training, rank: int) -> Iterator[tuple[str, tuple[Matrix, Matrix]]]:
    """Yield the factors of each matrix's difference, [rank, inputs] and [outputs, rank], by its name in transformers.

    Raise `_Other` where a version differs from its base in anything else.
    """
    if training.weights is None:
        return
    with tempfile.NamedTemporaryFile(dir=training.folder, suffix=".safetensors") as file:
        file.write(training.weights())
        file.flush()
        with safetensors.safe_open(file.name, "numpy") as held:
            names = set(held.keys())
            for name, tensor in base.tensors.items():
                if (own := _own(name)) not in names:
                    raise _Other(f"expected a version of the same base, got one without {name}")
                before, now = tensor.numpy(), held.get_tensor(own)
                matrix = name.removesuffix(".weight")
                if before.shape != now.shape:
                    raise _Other(f"expected {name} of the base's shape {before.shape}, got {now.shape}")
                if name.startswith(_LAYERS) and matrix.split(".", 3)[-1] in MATRICES:
                    yield matrix, _thin(matrix, before, now, rank)
                elif not np.array_equal(before, now):
                    raise _Other(f"expected a version that learned the matrices of layers alone, got another {name}")


def _own(name: str) -> str:
    """Return what a version's weights call a tensor, by its name in transformers."""
    return f"network.body.{name.removeprefix('model.')}" if name.startswith("model.") else "network.tell.weight"


def _thin(name: str, before: Matrix, now: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """Return the factors of a difference, [rank, inputs] and [outputs, rank], as few as it has, one at least."""
    change = now - before
    size = float(np.linalg.norm(change))
    rounding = _ROUNDING * float(np.linalg.norm(before))
    random = np.random.default_rng(0)
    while rank + _SPARE <= min(change.shape):
        directions, _ = np.linalg.qr(change @ random.standard_normal((change.shape[1], rank + _SPARE), np.float32))
        left, sizes, right = np.linalg.svd(directions.T @ change, full_matrices=False)
        kept = max(1, int((sizes > max(rounding, 1e-6 * float(sizes[0]))).sum()))
        up, down = directions @ left[:, :kept] * np.sqrt(sizes[:kept]), np.sqrt(sizes[:kept, np.newaxis]) * right[:kept]
        if float(np.linalg.norm(change - up @ down)) <= max(_LEFT_OUT * size, rounding):
            return np.ascontiguousarray(down, np.float32), np.ascontiguousarray(up, np.float32)
        rank *= 2
    raise _Other(f"expected differences of a low rank, got one of {min(change.shape)} or nearly so in {name}")


def _kept(base: LanguageBase, folder: Path) -> tuple[str, int]:
    """Write the base, the same bytes for the same import, called by its digest; return that and its size."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
        path = Path(part.name)
    tensors = {name: each.numpy() for name, each in base.tensors.items()}
    write_gguf(path, base.shape, tensors, base.words, Prompt("", "", ""))
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return digest, path.rename(folder / digest).stat().st_size


def _written(factors: Mapping[str, tuple[Matrix, Matrix]], rank: int, told: Mapping[str, Any], folder: Path) -> Path:
    """Write an adapter as PEFT does: all of one rank, those with less filled up with zeros."""
    tensors = {}
    for name, (down, up) in factors.items():
        place = f"{PREFIX}{name.removeprefix(_LAYERS)}"
        tensors[f"{place}.{DOWN}"] = np.pad(down, ((0, rank - len(down)), (0, 0)))
        tensors[f"{place}.{UP}"] = np.pad(up, ((0, 0), (0, rank - up.shape[1])))
    data = safetensors.numpy.save(tensors, {ADAPTER: json.dumps(told, sort_keys=True)})
    path = folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    path.write_bytes(data)
    return path


def _config(rank: int) -> dict[str, Any]:
    """Return PEFT's adapter_config.json: products are added as they are."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "target_modules": sorted(name.rpartition(".")[2] for name in MATRICES),
        "bias": "none",
        "inference_mode": True,
    }


METHOD: Final = Method(_made, large=True, writes=True)
