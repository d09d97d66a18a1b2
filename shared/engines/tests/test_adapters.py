"""Adapters of a model of language: read with care, added to their base, and answered with."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.numpy
from headrace_engines import GENERATORS, GGUF, beside, format_of
from headrace_engines.adapter_files import ADAPTER, is_adapter, read_adapter
from headrace_engines.adapters import DOWN, MATRICES, PREFIX, UP, base_of, merge
from headrace_engines.beside import Reference, Weights
from headrace_engines.errors import NotAModel
from headrace_engines.generator import Piece, Room, Sampling

Write = Callable[..., bytes]
ROOM = Room(cache_bytes=2 * 1024 * 1024, threads=1, step_tokens=32, answers=2)


class Kept:
    """Keeps bytes by their digest, as the object store does."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put(self, data: bytes) -> Weights:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.held[digest] = data
        return Weights(digest, len(data))

    def put_file(self, path: Path) -> Weights:
        return self.put(path.read_bytes())

    def get(self, artifact: Reference) -> bytes:
        return self.held[artifact.digest]

    def get_file(self, artifact: Reference, path: Path) -> None:
        path.write_bytes(self.held[artifact.digest])

    def head(self, artifact: Reference, count: int) -> bytes:
        return self.held[artifact.digest][:count]


def placed(folder: Path, base: bytes, adapter: bytes) -> Path:
    """Write an adapter with its base beside it."""
    (folder / f"sha256:{hashlib.sha256(base).hexdigest()}").write_bytes(base)
    path = folder / f"{hashlib.sha256(adapter).hexdigest()}.safetensors"
    path.write_bytes(adapter)
    return path


def numbers(graph: bytes, folder: Path) -> dict[str, Any]:
    (path := folder / "read.gguf").write_bytes(graph)
    return {each.name: np.array(each.data, np.float32) for each in gguf.GGUFReader(path).tensors}


def changed(adapter: bytes, tensors: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """Return an adapter that says something else of itself, or has other tensors too."""
    header = json.loads(adapter[8 : 8 + int.from_bytes(adapter[:8], "little")])
    document = json.loads(header["__metadata__"][ADAPTER]) | changes
    held = safetensors.numpy.load(adapter) | (tensors or {})
    return bytes(safetensors.numpy.save(held, {ADAPTER: json.dumps(document)}))


def test_several_adapters_of_one_base_keep_it_once(tiny_gguf: Write, tiny_adapter: Write, tmp_path: Path) -> None:
    base, store = tiny_gguf(), Kept()
    kept = [beside.put(placed(tmp_path, base, tiny_adapter(base, seed)), store) for seed in (1, 2)]
    assert len(store.held) == 3
    for each in kept:
        graph = beside.get(len(base), each, store, tmp_path / "cache")
        assert isinstance(graph, Path)
        assert format_of(graph) == GGUF
        assert beside.told(graph) == {"beside_bytes": len(base)}
        assert (beside.own_bytes(graph), beside.total_bytes(graph)) == (each.size_bytes, each.size_bytes + len(base))
        assert base_of(graph) == graph.with_name(beside.digests(graph)[0])
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert beside.own_bytes(base) == len(base)
    assert base_of(base) == base


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_differences_are_added_to_the_rows_that_are_theirs(
    tiny_gguf: Write, tiny_adapter: Write, tmp_path: Path, architecture: str
) -> None:
    base = tiny_gguf().replace(b"llama", architecture.encode())
    adapter = tiny_adapter(base)
    merge(adapter, placed(tmp_path, base, adapter).with_name(read_adapter(adapter).base), tmp_path / "merged.gguf")
    before, after = (numbers(each, tmp_path) for each in (base, (tmp_path / "merged.gguf").read_bytes()))
    thin, count = safetensors.numpy.load(adapter), 0
    for name, values in before.items():
        _, layer, own, *_ = (*name.split("."), "", "")
        change = np.zeros_like(values)
        if own in (names := {told: each for each, told in MATRICES.items()}):
            place = f"{PREFIX}{layer}.{names[own]}"
            change = 2 * thin[f"{place}.{UP}"] @ thin[f"{place}.{DOWN}"]
            count += 1
        if own in ("attn_q", "attn_k") and architecture == "llama":
            # Of a head of 32 rows the file has both numbers of a pair side by side, and PEFT half a head apart.
            rows = range(len(values))
            change = change[[row // 32 * 32 + row % 2 * 16 + row % 32 // 2 for row in rows]]
        np.testing.assert_allclose(after[name], values + change, atol=4e-3)
    assert count == 14


def test_an_adapter_answers_as_the_sum_does(tiny_gguf: Write, tiny_adapter: Write, tmp_path: Path) -> None:
    base = tiny_gguf()
    adapter = placed(tmp_path, base, tiny_adapter(base))
    merge(adapter, adapter.with_name(read_adapter(adapter).base), tmp_path / "merged.gguf")
    found = []
    for graph in (adapter, tmp_path / "merged.gguf"):
        pieces: list[Piece] = []
        ended = threading.Event()

        def take(piece: Piece, pieces: list[Piece] = pieces, ended: threading.Event = ended) -> None:
            pieces.append(piece)
            if piece.finish:
                ended.set()

        with closing(GENERATORS[GGUF](graph, ROOM)) as generator:
            generator.start("the river turns", Sampling(16), take, lambda _: None)
            assert ended.wait(60)
        found.append([token for piece in pieces for token in piece.tokens])
    assert len(found[0]) == 16
    assert found[0] == found[1]


def test_what_is_no_adapter_of_its_base_is_refused(tiny_gguf: Write, tiny_adapter: Write, tmp_path: Path) -> None:
    base = tiny_gguf()
    good = tiny_adapter(base)
    assert not any(is_adapter(each) for each in (b"", base, good[:500], safetensors.numpy.save({}), b"\xff" * 99))

    def others(**tensors: Any) -> bytes:
        first = f"{PREFIX}0.self_attn.q_proj"
        return changed(good, {f"{first}.{name.replace('__', '.')}": each for name, each in tensors.items()})

    thin = np.zeros((2, 64), np.float32)
    for wrong, reason in (
        (changed(good, base="sha256:1"), "digest and size"),
        (changed(good, baseBytes=True), "digest and size"),
        (changed(good, prompt={"a": 1}), "texts as prompt"),
        (changed(good, config={"r": 0, "lora_alpha": 1}), "r and lora_alpha"),
        (tiny_adapter(base, use_dora=True), "use_dora"),
        (good[:-1], "within the file"),
        (others(lora_A__weight=thin.astype(np.float16)), "matrix of F32"),
    ):
        with pytest.raises(NotAModel, match=reason):
            read_adapter(wrong)
    for wrong, reason in (
        (others(lora_A__weight=thin[:, :32]), "expected a difference of"),
        (others(lora_A__weight=np.zeros((3, 64), np.float32)), "expected a difference of"),
        (others(lora_B__weight=np.full((64, 2), 1e6, np.float32), lora_A__weight=thin + 1), "larger ones"),
        (others(bias=thin), "pairs"),
        (others(other__lora_A__weight=thin), "matrix of a layer"),
    ):
        path = placed(tmp_path, base, wrong)
        with pytest.raises(NotAModel, match=reason):
            GENERATORS[GGUF](path, ROOM)
    (path := placed(tmp_path, base, good)).with_name(read_adapter(good).base).unlink()
    for graph, reason in ((good, "adapter alone"), (path, "beside")):
        with pytest.raises(NotAModel, match=reason):
            GENERATORS[GGUF](graph, ROOM)
    quantised = tiny_gguf("Q8_0")
    with pytest.raises(NotAModel, match="F16 in the base"):
        GENERATORS[GGUF](placed(tmp_path, quantised, tiny_adapter(quantised)), ROOM)
