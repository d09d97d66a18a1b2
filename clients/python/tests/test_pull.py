"""`pull` against a registry with canned answers and a real object store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import safetensors.numpy
from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.model_pb2 import Variant
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_runtime.object_store import ObjectStore

from .test_report_command import graph, put


@pytest.fixture
def version(registry, canned, tmp_path: Path) -> messages.Version:
    """A version whose graph lies in a store, with a release."""
    store = ObjectStore(str(tmp_path / "store"))
    version, release = canned.version(messages.VERSION_STATE_RELEASED), canned.release()
    version.trained.graph.CopyFrom(put(store, graph()))
    release.released.graph.CopyFrom(version.trained.graph)
    registry.versions, registry.releases = [version], [release]
    return version


@pytest.mark.usefixtures("version")
def test_the_released_graph_is_written(headrace, tmp_path: Path) -> None:
    done = headrace("pull", "digits", str(tmp_path / "out" / "files"))
    assert done.exit_code == 0, done.output
    assert [each.name for each in (tmp_path / "out" / "files").iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(tmp_path / "out" / "files" / "model.onnx"))
    assert "model.onnx" in done.stdout
    again = headrace("pull", "digits", str(tmp_path / "out" / "files"))
    assert again.exit_code == 1
    assert "is not empty" in again.stderr


def test_an_adapter_is_what_peft_loads_with_its_base(
    headrace,
    version: messages.Version,
    tmp_path: Path,
    tiny_gguf: Callable[..., bytes],
    tiny_adapter: Callable[..., bytes],
) -> None:
    store, base = ObjectStore(str(tmp_path / "store")), tiny_gguf()
    adapter = tiny_adapter(base)
    store.put(base)
    kept = put(store, adapter)
    version.variants.append(Variant(name="adapter", graph=Artifact(beside_bytes=len(base))))
    version.variants[-1].graph.MergeFrom(kept)
    version.variants.append(Variant(name="q8", graph=put(store, tiny_gguf("Q8_0"))))
    done = headrace("pull", "digits:1", str(tmp_path / "adapter"), "--variant", "adapter")
    assert done.exit_code == 0, done.output
    files = {each.name: each.read_bytes() for each in (tmp_path / "adapter").rglob("*.*")}
    assert files.keys() == {"adapter_model.safetensors", "adapter_config.json", "model.gguf"}
    assert (tmp_path / "adapter" / "base" / "model.gguf").read_bytes() == base
    assert files["adapter_model.safetensors"] == adapter
    assert safetensors.numpy.load(adapter)
    assert json.loads(files["adapter_config.json"])["r"] == 2
    done = headrace("pull", "digits", str(tmp_path / "whole"), "--variant", "q8")
    assert [each.name for each in (tmp_path / "whole").iterdir()] == ["model.gguf"], done.output


def test_what_is_not_there_is_named(headrace, version: messages.Version, tmp_path: Path) -> None:
    unknown = headrace("pull", "digits", str(tmp_path / "out"), "--variant", "q4")
    assert unknown.exit_code == 1
    assert "no variant 'q4', only fp32, int8" in unknown.stderr
    store = ObjectStore(str(tmp_path / "store"))
    version.variants.append(Variant(name="lost", graph=Artifact(digest=f"sha256:{'0' * 64}", size_bytes=1)))
    version.variants[-1].graph.uri = f"{store.url}/sha256/{'0' * 64}"
    lost = headrace("pull", "digits", str(tmp_path / "out"), "--variant", "lost")
    assert lost.exit_code == 1
    assert "HEADRACE_STORE_URL" in lost.stderr
