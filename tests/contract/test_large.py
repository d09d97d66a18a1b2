"""A model whose graph is no single file is trained, compressed and loaded, each by the code of its service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headrace_compressor.transport import assignments
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.windows import only_dataset
from headrace_engines import beside
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.graph_cache import SPARE, GraphCache
from headrace_inference.adapters.graph_trial import GraphTrial
from headrace_inference.core.releases import Graph
from headrace_learning import large
from headrace_runtime.errors import Corrupt, NotFound, Unavailable, Unprocessable
from headrace_runtime.local_files import TEMPORARY
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_trainer.child import alone

PIPELINE = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: large}
stream:
  topic: large
  schema:
    - {name: id, type: int64, role: id}
    - {name: x, type: float32, shape: [32], role: feature}
    - {name: above, type: int64, role: label, range: [0, 1]}
train: {network: {kind: mlp, hidden: [64, 64]}, epochs: 1}
compress: {variants: [{kind: weight-only-int8}, {kind: int8-dynamic}]}
"""
NOWHERE = Provenance(cluster_id="c", topic="large", topic_id="", sources=(), clean_ranges=(), rejected={})
ROWS = np.random.default_rng(2).normal(size=(5, 32)).astype(np.float32)


class Silent:
    """Is told how far a run is."""

    def progress(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    return ObjectStore(str(tmp_path_factory.mktemp("large") / "store"))


@pytest.fixture(scope="module")
def small_limits() -> Iterator[None]:
    """Let a graph of some kilobytes count as large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "LARGEST_BYTES", 8_000)
        patch.setattr(large, "LEAST_BYTES", 1_000)
        yield


@pytest.fixture(scope="module")
def trained(store: ObjectStore, small_limits: None) -> Iterator[dict[str, Any]]:
    pipeline, random = load_pipeline(PIPELINE), np.random.default_rng(1)
    values = random.normal(size=(200, 32))
    records = [
        json.dumps({"id": place, "x": row.tolist(), "above": int(row.sum() > 0)}).encode()
        for place, row in enumerate(values)
    ]
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records))).batch)
    dataset: Manifest = only_dataset(writer.finish(NOWHERE), pipeline, store)
    told: dict[str, Any] = {
        "run_id": "train-1",
        "attempt": 1,
        "store_url": store.url,
        "output": "runs/train-1/attempt-1",
        "spec": pipeline.canonical_json().decode(),
        "dataset": {"dataset_id": dataset.dataset_id, "manifest": asdict(store.put(dataset.to_json()))},
        "checkpoint_s": 3600,
        "packages": [],
    }
    threads = torch.get_num_threads()
    try:
        yield told | {"result": alone(told, Silent())}
    finally:
        torch.set_deterministic_debug_mode("default")
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def compressed(trained: dict[str, Any]) -> Mapping[str, Any]:
    result = trained["result"]
    candidate = {name: result[name] for name in ("version_id", "graph", "weights")} | {"dataset": trained["dataset"]}
    told = {name: trained[name] for name in ("store_url", "spec")} | {
        "candidate": candidate,
        "champion": None,
        "cpu_class": "",
    }
    silent: Any = Silent()
    return assignments.measure(told, silent)


@pytest.fixture
def cache(store: ObjectStore, tmp_path: Path) -> GraphCache:
    return GraphCache(store, tmp_path / "graphs")


def graph_of(told: Mapping[str, Any]) -> Graph:
    return Graph(**told["graph"])


def answers(graph: beside.Graph) -> np.ndarray[Any, Any]:
    (found,) = EngineModel(graph, 32).run({"x": ROWS}, ["probabilities"])
    return found


def weights_of(graph: Graph, store: ObjectStore) -> list[str]:
    return [each.digest for each in beside.weights_beside(store.get(graph))]


def test_a_version_names_all_its_weights(trained: dict[str, Any], store: ObjectStore) -> None:
    result = trained["result"]
    graph = graph_of(result)
    assert graph.beside_bytes == 4 * (32 * 64 + 64 * 64)
    told = json.loads(store.get(Artifact(**result["manifest"])))["graph"]
    assert [each["digest"] for each in told["beside"]] == weights_of(graph, store)
    assert sum(each["size_bytes"] for each in told["beside"]) == graph.beside_bytes


def test_variants_are_made_and_measured(trained: dict[str, Any], compressed: Mapping[str, Any]) -> None:
    reference, int8 = compressed["variants"]
    assert reference["graph"] == trained["result"]["graph"]
    assert (int8["name"], int8["metrics"]["agreement"]) == ("int8-weights", 1.0)
    assert 0.2 < int8["metrics"]["size_bytes"] / reference["metrics"]["size_bytes"] < 0.6
    assert reference["metrics"]["size_bytes"] > graph_of(reference).beside_bytes
    (other,) = compressed["not_applicable"]
    assert other["variant"] == "int8"
    assert "int8-dynamic: expected a graph in one file, up to 8,000 bytes, got" in other["reason"]


def test_both_are_tried_loaded_and_answer_alike(compressed: Mapping[str, Any], cache: GraphCache) -> None:
    trial, found = GraphTrial(32, 60.0), []
    try:
        for variant in compressed["variants"]:
            data = cache.get(graph_of(variant))
            trial.attempt(graph_of(variant), data)
            found.append(answers(data))
    finally:
        trial.close()
    assert isinstance(data, Path)
    np.testing.assert_allclose(found[0], found[1], atol=0.02)


def harm(file: Path, how: str) -> None:
    data = file.read_bytes()
    file.unlink()
    if how == "changed":
        file.write_bytes(data[::-1])
    if how == "a link":
        other = file.with_name("elsewhere")
        other.write_bytes(data)
        file.symlink_to(other)


@pytest.mark.parametrize("how", ["changed", "missing", "a link"])
def test_a_replica_mends_what_was_harmed_on_its_disk(
    how: str, compressed: Mapping[str, Any], cache: GraphCache, store: ObjectStore
) -> None:
    graph = graph_of(compressed["variants"][0])
    path = cache.get(graph)
    assert isinstance(path, Path)
    expected = answers(path)
    harm(path.with_name(weights_of(graph, store)[0]), how)
    if how != "changed":  # sizes are looked at when it is loaded, bytes when it is fetched
        with pytest.raises(Unprocessable, match="expected weights sha256"):
            answers(path)
    np.testing.assert_array_equal(answers(cache.get(graph)), expected)


@pytest.mark.parametrize(("how", "error"), [("changed", Corrupt), ("missing", NotFound)])
def test_weights_that_the_store_lost_are_told(
    how: str, error: type[Exception], compressed: Mapping[str, Any], cache: GraphCache, store: ObjectStore
) -> None:
    graph = graph_of(compressed["variants"][0])
    digest = weights_of(graph, store)[-1]
    plain = digest.removeprefix("sha256:")
    file = Path(store.url.removeprefix("file://")) / "sha256" / plain[:2] / plain
    data = file.read_bytes()
    harm(file, how)
    with pytest.raises(error, match=digest):
        cache.get(graph)
    file.write_bytes(data)
    assert isinstance(cache.get(graph), Path)


def test_a_disk_without_room_is_told(
    compressed: Mapping[str, Any], cache: GraphCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(OSError, match="expected 24576 bytes for its weights, got 10"):
        cache.get(graph_of(compressed["variants"][0]))


def test_what_is_kept_for_later_makes_room(
    compressed: Mapping[str, Any], cache: GraphCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, int8 = map(graph_of, compressed["variants"])
    cache.get(int8)
    left = tmp_path / "graphs" / f"{TEMPORARY}of-a-fetch-that-was-killed"
    left.write_bytes(b"half")
    least = len([*left.parent.iterdir()]) - 1
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: type("Usage", (), {"free": (least - len([*folder.iterdir()])) * 10**6})
    )
    with pytest.raises(OSError, match="bytes for its weights, got 0"):
        cache.get(reference, lambda: [int8.digest])
    assert isinstance(cache.get(reference), Path)
    assert not left.exists()


def test_a_replica_that_starts_again_needs_no_store(
    compressed: Mapping[str, Any], cache: GraphCache, tmp_path: Path
) -> None:
    graph = graph_of(compressed["variants"][0])
    expected = answers(cache.get(graph))
    again = GraphCache(ObjectStore(str(tmp_path / "gone")), tmp_path / "graphs")
    np.testing.assert_array_equal(answers(again.get(graph)), expected)


def test_tidying_takes_weights_that_no_graph_names(
    compressed: Mapping[str, Any], cache: GraphCache, store: ObjectStore, tmp_path: Path
) -> None:
    reference, int8 = map(graph_of, compressed["variants"])
    for graph in (reference, int8):
        cache.get(graph)
    for number in range(SPARE):
        cache.get(Graph(**asdict(store.put(b"other %d" % number))))
    cache.tidy({int8.digest})
    left = {each.name for each in (tmp_path / "graphs").glob("sha256:*")}
    assert left == set(weights_of(int8, store))
    assert isinstance(cache.get(int8), Path)


def test_a_store_that_fails_is_no_fault_of_the_graph(compressed: Mapping[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    cache = GraphCache(ObjectStore(str(tmp_path / "file" / "store")), tmp_path / "graphs")
    with pytest.raises((Unavailable, NotFound)):
        cache.get(graph_of(compressed["variants"][0]))
