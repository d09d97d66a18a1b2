"""What was saved is the same in an empty platform: datasets, versions, releases and answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from headrace_client import InferenceClient, RegistryClient
from headrace_client.proofs import walk
from headrace_client.waiting import wait_served
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_runtime.kafka import Admin
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.settings import KafkaSettings

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e


def backup(command: str, folder: Path, servers: str, store: str) -> subprocess.CompletedProcess[str]:
    environment = {"HEADRACE_KAFKA_BOOTSTRAP_SERVERS": servers, "PATH": os.environ["PATH"]}
    called = [sys.executable, "-m", "headrace_runtime.backup", command, str(folder), "--store", store]
    return subprocess.run(called, env=environment, capture_output=True, text=True, check=False, timeout=200)


def catalogue(registry: RegistryClient) -> dict[str, list[Any]]:
    """Return what the registry knows, less when it was asked."""
    return {
        "pipelines": [each.spec.digest for each in registry.pipelines("digits")],
        "datasets": [each.frozen.dataset_id for each in registry.datasets("digits")],
        "runs": [(each.run_id, each.state) for each in registry.runs("digits")],
        "versions": [(each.trained.version_id, each.ordinal, each.state) for each in registry.versions("digits")],
        "releases": [each.released.SerializeToString(deterministic=True) for each in registry.releases("digits")],
    }


def test_a_backup_fills_an_empty_platform_with_the_same(
    platform: Platform,
    registry: RegistryClient,
    inference: InferenceClient,
    released: dict[str, Any],
    tmp_path: Path,
) -> None:
    from headrace_local.launcher import Platform as Embedded

    folder = tmp_path / "backup"
    known, head = catalogue(registry), registry.log_head()
    saved = backup("save", folder, platform.bootstrap_servers, platform.connections.store_url)
    assert saved.returncode == 0, saved.stderr
    assert catalogue(registry) == known, "nothing happened meanwhile"
    stored = registry.datasets("digits")[0].frozen.manifest

    empty = Embedded.on_free_ports(tmp_path / "other", services=())
    with empty:
        settings = KafkaSettings(kafka_bootstrap_servers=empty.bootstrap_servers)
        with Admin(settings, "test") as admin:
            admin.ensure_topic("digits", registry.pipelines("digits")[0].partitions)
        store = empty.connections.store_url
        restored = backup("restore", folder, empty.bootstrap_servers, store)
        assert restored.returncode == 0, restored.stderr
        again = backup("restore", folder, empty.bootstrap_servers, store)
        assert again.returncode == 1
        assert "expected an empty topic, got messages" in again.stderr
    with (
        Embedded(empty.settings) as other,
        RegistryClient(other.addresses["registry"]) as theirs,
        InferenceClient(other.addresses["inference"]) as answering,
    ):
        assert catalogue(theirs) == known
        assert walk(theirs.log_lines(), [head.size]).roots[head.size] == head.root
        objects = ObjectStore(other.connections.store_url)
        rows = DatasetReader(Manifest.from_json(objects.get(stored)), objects).columns("test")["pixels"][:5]
        assert wait_served(answering, theirs.releases("digits")[0].released, timeout_s=60)
        mine, earlier = (client.infer("digits", {"pixels": rows}) for client in (answering, inference))
        assert mine.outputs.keys() == earlier.outputs.keys()
        assert all(np.array_equal(mine.outputs[name], earlier.outputs[name]) for name in mine.outputs)
        assert catalogue(theirs) == known, "no command is carried out again"


def test_a_folder_with_something_in_it_is_no_place_for_a_backup(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    done = backup("save", tmp_path, platform.bootstrap_servers, platform.connections.store_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected an empty folder" in done.stderr
