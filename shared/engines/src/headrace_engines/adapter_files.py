"""Reads what an adapter says of itself: differences of a model of language's matrices, as products of two thin ones.

It is one safetensors file (https://github.com/huggingface/safetensors) with tensors as PEFT calls them, each matrix a
`lora_A.weight`, [rank, inputs], and a `lora_B.weight`, [outputs, rank] (Hu et al., "LoRA", ICLR 2022). Its metadata
have `headrace.adapter`, JSON: `base` and `baseBytes`, digest and size of the GGUF file that it is a difference of;
`prompt`, what stands before an answer; and `config`, which is PEFT's `adapter_config.json`.
"""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from headrace_engines.errors import NotAModel

ADAPTER: Final = "headrace.adapter"
"""The key of the metadata that tells an adapter from other tensors."""
_METADATA: Final = "__metadata__"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_HEADER: Final = 16 * 2**20
_NUMBER_BYTES: Final = 4
_LARGEST: Final = 1_000_000
_UNKNOWN: Final = (
    "use_dora",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "fan_in_fan_out",
    "layer_replication",
    "lora_bias",
)
"""What PEFT may say of a difference that is no plain product: none of it is computed here."""


class StoredMatrix(NamedTuple):
    """Where the float32 numbers of a matrix lie in the file."""

    shape: tuple[int, int]
    start: int
    """The first byte, from the beginning of the file."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """What an adapter says of itself."""

    base: str
    """`sha256:` and 64 hexadecimal digits of the GGUF file that it is a difference of."""
    base_bytes: int
    prompt: Mapping[str, str]
    """By the keys that a GGUF file has for it."""
    config: Mapping[str, Any]
    """PEFT's."""
    matrices: Mapping[str, StoredMatrix]
    """By the names that PEFT gives them."""

    @property
    def scale(self) -> float:
        """What each product is multiplied by before it is added."""
        return float(self.config["lora_alpha"]) / float(self.config["r"])


def is_adapter(graph: bytes | Path) -> bool:
    """Return whether a file is an adapter, whole or not. Raises OSError where there is none."""
    return _header(graph) is not None


def read_adapter(graph: bytes | Path) -> Adapter:
    """Return what an adapter says of itself. Raises NotAModel for anything else, OSError where there is no file."""
    if (found := _header(graph)) is None:
        raise NotAModel(f"expected an adapter, safetensors with {ADAPTER} among its metadata, got another file")
    plain, begin = found
    size = len(graph) if isinstance(graph, bytes) else graph.stat().st_size
    told = _told(plain.pop(_METADATA)[ADAPTER])
    matrices = {str(name): _matrix(str(name), each, begin, size) for name, each in plain.items()}
    return Adapter(told["base"], told["baseBytes"], told["prompt"], told["config"], matrices)


def _header(graph: bytes | Path) -> tuple[dict[str, Any], int] | None:
    """Return the header of an adapter, and where its numbers begin; None for any other file."""
    with io.BytesIO(graph) if isinstance(graph, bytes) else graph.open("rb") as file:
        start = file.read(9)
        if start[8:] != b"{":
            return None
        (size,) = struct.unpack("<Q", start[:8])
        if size > _MOST_HEADER:
            return None
        text = start[8:] + file.read(size - 1)
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        return None
    metadata = plain.get(_METADATA)
    return (plain, 8 + size) if isinstance(metadata, dict) and ADAPTER in metadata else None


def _told(text: Any) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotAModel(f"{ADAPTER}: expected JSON, got other text ({error})") from error
    told = told if isinstance(told, dict) else {}
    base, size, prompt, config = (told.get(key) for key in ("base", "baseBytes", "prompt", "config"))
    if not isinstance(base, str) or not _DIGEST.fullmatch(base) or not _is_within(size, 2**53):
        raise NotAModel(f"{ADAPTER}: expected digest and size of a base, got {base!r} of {size!r} bytes")
    if not isinstance(prompt, dict) or not all(isinstance(each, str) for each in prompt.values()):
        raise NotAModel(f"{ADAPTER}: expected texts as prompt, got {prompt!r}")
    if not isinstance(config, dict) or not all(_is_within(config.get(key), _LARGEST) for key in ("r", "lora_alpha")):
        raise NotAModel(f"{ADAPTER}: expected a config with r and lora_alpha of 1 to {_LARGEST}, got {config!r}")
    if wrong := [key for key in _UNKNOWN if config.get(key)]:
        raise NotAModel(f"{ADAPTER}: expected plain differences, got {', '.join(wrong)}")
    return told


def _is_within(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _matrix(name: str, plain: Any, begin: int, size: int) -> StoredMatrix:
    plain = plain if isinstance(plain, dict) else {}
    kind, shape, offsets = plain.get("dtype"), plain.get("shape"), plain.get("data_offsets")
    sizes = shape if isinstance(shape, list) and all(_is_within(each, _LARGEST) for each in shape) else []
    if kind != "F32" or len(sizes) != 2:
        raise NotAModel(f"{name}: expected a matrix of F32, got {kind} of {shape}")
    ends = offsets if isinstance(offsets, list) and all(isinstance(each, int) for each in offsets) else []
    if len(ends) != 2 or min(ends) < 0 or begin + max(ends) > size:
        raise NotAModel(f"{name}: expected a place within the file, got {offsets}")
    if ends[1] - ends[0] != _NUMBER_BYTES * sizes[0] * sizes[1]:
        raise NotAModel(f"{name}: expected as many bytes as {shape} has, got {offsets}")
    return StoredMatrix((sizes[0], sizes[1]), begin + ends[0])
