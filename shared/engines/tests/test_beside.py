"""Weights beside a graph are files of their digests in its own folder, and nothing else is ever read."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headrace_engines import ENGINES, ONNX, beside
from headrace_engines.beside import Reference, Weights
from headrace_engines.errors import NotAModel
from onnx import ModelProto, TensorProto, helper, numpy_helper

NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)
DATA = NUMBERS.tobytes()
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
ROWS = np.ones((2, 3), np.float32)


def tensor(name: str = "weights", **entries: str) -> TensorProto:
    made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=NUMBERS.shape, data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": DIGEST, "length": str(len(DATA))} | entries).items():
        if value:
            made.external_data.add(key=key, value=value)
    return made


def model(*weights: TensorProto, nodes: tuple[Any, ...] = ()) -> bytes:
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", ["rows", "weights"], ["answers"])],
        "served",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("answers", TensorProto.FLOAT, ["batch", 4])],
        list(weights),
    )
    made: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(made.SerializeToString())


class Kept:
    """Keeps bytes by their digest, as the object store does, and counts what is fetched."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.fetched: Counter[str] = Counter()

    def put(self, data: bytes) -> Weights:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.held[digest] = data
        return Weights(digest, len(data))

    def put_file(self, path: Path) -> Weights:
        return self.put(path.read_bytes())

    def get(self, artifact: Reference) -> bytes:
        return self.held[artifact.digest]

    def head(self, artifact: Reference, count: int) -> bytes:
        return self.held[artifact.digest][:count]

    def get_file(self, artifact: Reference, path: Path) -> None:
        self.fetched[artifact.digest] += 1
        path.unlink(missing_ok=True)
        path.write_bytes(self.held[artifact.digest])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A graph with its weights beside it."""
    (tmp_path / DIGEST).write_bytes(DATA)
    file = tmp_path / "graph.onnx"
    file.write_bytes(model(tensor()))
    return file


def test_a_graph_runs_with_the_weights_beside_it(path: Path) -> None:
    assert beside.weights_beside(path.read_bytes()) == (Weights(DIGEST, len(DATA)),)
    assert beside.total_bytes(path) == path.stat().st_size + len(DATA)
    (answers,) = ENGINES[ONNX](path, None).run({"rows": ROWS}, ["answers"])
    np.testing.assert_array_equal(answers, ROWS @ NUMBERS)


def test_a_graph_that_holds_its_weights_needs_nothing(path: Path) -> None:
    whole = model(numpy_helper.from_array(NUMBERS, "weights"))
    assert beside.weights_beside(whole) == ()
    assert beside.told(whole) == {}
    assert beside.told(path) == {"beside_bytes": len(DATA)}


def test_it_comes_back_from_a_store_and_is_fetched_once(path: Path, tmp_path: Path) -> None:
    store, folder = Kept(), tmp_path / "cache"
    kept = beside.put(path, store)
    assert list(store.held) == [DIGEST, kept.digest]  # whoever finds the graph finds its weights
    for _ in range(2):
        back = beside.get(len(DATA), kept, store, folder)
        assert isinstance(back, Path)
        (answers,) = ENGINES[ONNX](back, None).run({"rows": ROWS}, ["answers"])
        np.testing.assert_array_equal(answers, ROWS @ NUMBERS)
    assert store.fetched == {DIGEST: 1}


def test_a_model_of_language_comes_as_its_file(tmp_path: Path) -> None:
    store, content = Kept(), b"GGUF and the rest"
    kept = store.put(content)
    for _ in range(2):
        back = beside.get(0, kept, store, tmp_path / "cache")
        assert isinstance(back, Path)
        assert back.read_bytes() == content
    back.write_bytes(content[::-1])
    assert beside.get(0, kept, store, tmp_path / "cache") == back
    assert back.read_bytes() == content
    assert store.fetched == {kept.digest: 2}
    assert beside.get(0, store.put(b"another"), store, tmp_path) == b"another"


def damage_by_hand(file: Path) -> None:
    file.write_bytes(DATA[::-1])


def cut_short(file: Path) -> None:
    file.write_bytes(DATA[:-1])


def lead_elsewhere(file: Path) -> None:
    other = file.with_name("other")
    file.rename(other)
    file.symlink_to(other)


def take_away(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("harm", [damage_by_hand, cut_short, lead_elsewhere, take_away])
def test_harmed_weights_are_fetched_again(harm: Any, path: Path, tmp_path: Path) -> None:
    store, folder = Kept(), tmp_path / "cache"
    kept = beside.put(path, store)
    beside.get(len(DATA), kept, store, folder)
    harm(folder / DIGEST)
    beside.get(len(DATA), kept, store, folder)
    assert store.fetched == {DIGEST: 2}
    assert (folder / DIGEST).read_bytes() == DATA
    assert not (folder / DIGEST).is_symlink()


@pytest.mark.parametrize(
    ("harm", "told"),
    [(cut_short, "47 bytes instead of 48"), (lead_elsewhere, "no regular file"), (take_away, "No such file")],
)
def test_what_does_not_lie_beside_a_graph_is_not_loaded(harm: Any, told: str, path: Path) -> None:
    harm(path.with_name(DIGEST))
    with pytest.raises(NotAModel, match=f"expected weights {DIGEST} beside .*{told}"):
        ENGINES[ONNX](path, None)


def test_a_pipe_is_no_file_of_weights(path: Path) -> None:
    path.with_name(DIGEST).unlink()
    os.mkfifo(path.with_name(DIGEST))
    with pytest.raises(NotAModel, match="no regular file"):
        ENGINES[ONNX](path, None)


IN_A_NODE = helper.make_node("Constant", [], ["unused"], value=tensor("unused"))
BRANCH = helper.make_graph([], "branch", [], [helper.make_tensor_value_info("weights", TensorProto.FLOAT, [3, 4])])
IN_A_BRANCH = helper.make_node("If", ["condition"], ["chosen"], then_branch=BRANCH, else_branch=BRANCH)


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (model(tensor(location="/etc/passwd")), "expected the digest of a file .*'/etc/passwd'"),
        (model(tensor(location=f"../{DIGEST}")), "expected the digest of a file"),
        (model(tensor(location=f"{DIGEST}\n")), "expected the digest of a file"),
        (model(tensor(location="")), "expected the digest of a file"),
        (model(tensor(length="")), "with its length"),
        (model(tensor(length="-1")), "with its length"),
        (model(tensor(offset="0")), "with its length"),
        (model(tensor(), tensor("other", length="16")), "expected one size"),
        (model(numpy_helper.from_array(NUMBERS, "weights"), nodes=(IN_A_NODE,)), "that of another tensor"),
        (model(tensor(), nodes=(IN_A_BRANCH,)), "that of another tensor"),
        (b"no model", "expected a serialised ONNX model"),
    ],
)
def test_other_external_data_is_refused(graph: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(graph)
    with pytest.raises(NotAModel, match=told):
        ENGINES[ONNX](tmp_path / "graph.onnx", None)


def test_a_reference_that_tells_another_size_is_refused(path: Path, tmp_path: Path) -> None:
    store = Kept()
    kept = beside.put(path, store)
    with pytest.raises(NotAModel, match="expected 49 bytes beside it, got a graph with 48"):
        beside.get(49, kept, store, tmp_path / "cache")


def test_room_is_asked_for_before_anything_is_fetched(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Kept()
    kept = beside.put(path, store)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage)
    with pytest.raises(OSError, match="expected 48 bytes for its weights, got 47"):
        beside.get(len(DATA), kept, store, tmp_path / "cache")
    assert not store.fetched


class _Usage:
    free = len(DATA) - 1


def test_weights_are_mapped_unless_a_kernel_wants_them_in_its_own_order(path: Path) -> None:
    assert beside.is_mapped(path.read_bytes())
    packed = helper.make_node("MatMulNBits", ["rows", "weights"], ["unused"], domain="com.microsoft")
    assert not beside.is_mapped(model(tensor(), nodes=(packed,)))
