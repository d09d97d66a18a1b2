from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from headrace_engines import GGUF, format_of
from headrace_inference.adapters.graph_cache import SPARE, GraphCache
from headrace_inference.core.releases import Graph
from headrace_runtime.errors import Corrupt, NotFound
from headrace_runtime.object_store import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "store"))


@pytest.fixture
def cache(store: ObjectStore, tmp_path: Path) -> GraphCache:
    return GraphCache(store, tmp_path / "graphs")


def put(store: ObjectStore, data: bytes) -> Graph:
    artifact = store.put(data)
    return Graph(artifact.uri, artifact.digest, artifact.size_bytes)


def test_a_graph_is_fetched_once(cache: GraphCache, store: ObjectStore, tmp_path: Path) -> None:
    graph = put(store, b"graph")
    assert cache.get(graph) == b"graph"
    shutil.rmtree(tmp_path / "store")
    assert cache.get(graph) == b"graph"
    assert GraphCache(store, tmp_path / "graphs").get(graph) == b"graph"


def test_a_damaged_copy_is_fetched_again(cache: GraphCache, store: ObjectStore, tmp_path: Path) -> None:
    graph = put(store, b"graph")
    cache.get(graph)
    (copy,) = (tmp_path / "graphs").iterdir()
    copy.write_bytes(b"grapf")
    assert cache.get(graph) == b"graph"
    assert copy.read_bytes() == b"graph"


def test_damage_in_the_store_is_an_error_and_not_kept(cache: GraphCache, store: ObjectStore, tmp_path: Path) -> None:
    graph = put(store, b"graph")
    Path(graph.uri.removeprefix("file://")).write_bytes(b"grapf")
    with pytest.raises(Corrupt):
        cache.get(graph)
    assert not (tmp_path / "graphs").exists()


def test_a_graph_that_is_nowhere_is_named(cache: GraphCache) -> None:
    with pytest.raises(NotFound, match="sha256:" + "0" * 64):
        cache.get(Graph("s3://gone", "sha256:" + "0" * 64, 1))


def test_a_folder_that_cannot_be_written_does_not_stop_serving(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "graphs").write_bytes(b"a file where the folder should be")
    assert GraphCache(store, tmp_path / "graphs").get(put(store, b"graph")) == b"graph"


def test_adapters_of_one_base_have_it_once_on_the_disk(
    cache: GraphCache,
    store: ObjectStore,
    tmp_path: Path,
    tiny_gguf: Callable[..., bytes],
    tiny_adapter: Callable[..., bytes],
) -> None:
    base = store.put(tiny_gguf())
    kept = [put(store, tiny_adapter(store.get(base), seed)) for seed in (1, 2)]
    adapters = [replace(each, beside_bytes=base.size_bytes) for each in kept]
    for each in adapters:
        found = cache.get(each)
        assert isinstance(found, Path)
        assert format_of(found) == GGUF
        assert found.with_name(base.digest).read_bytes() == store.get(base)
    assert len(list((tmp_path / "graphs").iterdir())) == 3
    cache.tidy({adapters[1].digest}, spare=0)
    assert {each.name for each in (tmp_path / "graphs").iterdir()} == {found.name, base.digest}
    cache.tidy((), spare=0)
    assert list((tmp_path / "graphs").iterdir()) == []


def test_tidying_keeps_what_is_used_and_the_last_few(cache: GraphCache, store: ObjectStore, tmp_path: Path) -> None:
    graphs = [put(store, str(number).encode()) for number in range(SPARE + 3)]
    paths = []
    for age, graph in enumerate(graphs):
        cache.get(graph)
        paths.append(tmp_path / "graphs" / f"{graph.digest.removeprefix('sha256:')}.onnx")
        os.utime(paths[-1], (age, age))
    cache.tidy({graphs[0].digest})
    assert [path.exists() for path in paths] == [True, False, False] + [True] * SPARE
