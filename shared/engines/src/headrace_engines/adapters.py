"""Adds an adapter to its base: a file that any engine takes.

OpenVINO GenAI 2026.4 has adapters of its own. Of a model that it read from GGUF it knows no layer by its name, so that
it leaves each difference out with a warning, and of all answers in a batch it takes one adapter.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_engines.adapter_files import Adapter, StoredMatrix, read_adapter
from headrace_engines.beside import Graph, require_base
from headrace_engines.errors import NotAModel
from headrace_engines.gguf_language import Language, language_of
from headrace_engines.gguf_reading import StoredTensor, read_gguf

Matrix = npt.NDArray[np.float32]
MATRICES: Final[Mapping[str, str]] = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""What GGUF calls the matrices of a layer, by their names in transformers."""
PREFIX: Final = "base_model.model.model.layers."
"""How PEFT's names of the tensors of a layer begin."""
DOWN: Final = "lora_A.weight"
UP: Final = "lora_B.weight"


def base_of(graph: Graph) -> Graph:
    """Return the GGUF file that an adapter is a difference of, which lies beside it; any other graph as it is."""
    return require_base(graph) or graph


def merge(adapter: Graph, base: Path, path: Path) -> None:
    """Write the base of an adapter with the differences added, as a GGUF file.

    Matrices that change are F16, and stay so. Raises NotAModel where the two do not go together, OSError where the disk
    has no room.
    """
    told = read_adapter(adapter)
    shutil.copyfile(base, path)
    file = read_gguf(path)
    model = language_of(file)
    data = np.memmap(path, np.uint8, "r+")
    numbers = np.frombuffer(adapter, np.uint8) if isinstance(adapter, bytes) else np.memmap(adapter, np.uint8, "r")
    for name, down, up in _pairs(told):
        tensor = file.tensors.get(name)
        if tensor is None or (up.shape[0], down.shape[1]) != tensor.shape or up.shape[1] != down.shape[0]:
            expected = "no difference" if tensor is None else f"a difference of {tensor.shape}"
            raise NotAModel(f"{name}: expected {expected}, got {up.shape} times {down.shape}")
        change = _permuted(name, _read(numbers, up), model) @ _read(numbers, down)
        _add(name, data, tensor, np.float32(told.scale) * change)
    data.flush()


def _pairs(told: Adapter) -> Iterator[tuple[str, StoredMatrix, StoredMatrix]]:
    """Yield what GGUF calls each matrix that changes, and both factors of its difference."""
    left = set(told.matrices)
    for name in sorted(each for each in told.matrices if each.endswith(DOWN)):
        own = name.removesuffix(f".{DOWN}")
        layer, _, matrix = own.removeprefix(PREFIX).partition(".")
        up = f"{own}.{UP}"
        if not own.startswith(PREFIX) or not layer.isdecimal() or matrix not in MATRICES or up not in left:
            raise NotAModel(f"{name}: expected a matrix of a layer ({', '.join(MATRICES)}) with {UP}, got another")
        left -= {name, up}
        yield f"blk.{layer}.{MATRICES[matrix]}.weight", told.matrices[name], told.matrices[up]
    if left:
        raise NotAModel(f"expected pairs of {DOWN} and {UP}, got {min(left)} too")


def _read(numbers: npt.NDArray[Any], matrix: StoredMatrix) -> Matrix:
    size = 4 * matrix.shape[0] * matrix.shape[1]
    found: Matrix = numbers[matrix.start : matrix.start + size].view("<f4").reshape(matrix.shape)
    return found


def _permuted(name: str, up: Matrix, model: Language) -> Matrix:
    """Return rows in the order of the file: of Llama's queries and keys it has both numbers of a pair side by side."""
    heads = {"attn_q": model.heads, "attn_k": model.key_heads}.get(name.split(".")[2])
    if heads is None or model.architecture != "llama":
        return up
    return up.reshape(heads, 2, -1, up.shape[1]).swapaxes(1, 2).reshape(up.shape)


def _add(name: str, data: npt.NDArray[Any], tensor: StoredTensor, change: Matrix) -> None:
    if tensor.type.name != "F16":
        raise NotAModel(f"{name}: expected F16 in the base of an adapter, got {tensor.type.name}")
    held = data[tensor.start : tensor.start + tensor.size_bytes].view("<f2").reshape(tensor.shape)
    with np.errstate(over="ignore"):
        held[:] = (held.astype(np.float32) + change).astype(np.float16)
    if not np.isfinite(held).all():
        raise NotAModel(f"{name}: expected numbers that F16 holds, got larger ones")
