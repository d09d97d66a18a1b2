"""A platform at work whose store is collected: what nothing needs goes, and everything goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_runtime.object_store import ObjectStore

if TYPE_CHECKING:
    from headrace_client import RegistryClient
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

MARKS = "gc/marked.json"
DAYS_S = 3 * 86_400.0


def age(store: ObjectStore) -> None:
    """Let everything in the store, and what is marked there, be three days old."""
    for path in Path(urlsplit(store.url).path).rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - DAYS_S,) * 2)
    marks = json.loads(store.read(MARKS) or b"{}")
    store.write(MARKS, json.dumps({name: since_s - DAYS_S for name, since_s in marks.items()}).encode())


def test_what_nothing_needs_goes_and_the_rest_works_on(
    platform: Platform,
    registry: RegistryClient,
    released: dict[str, Any],
    headrace: Callable[..., Any],
    until: Callable[..., Any],
) -> None:
    store = ObjectStore(platform.connections.store_url)
    # The worker removes the checkpoints itself, once the fact is committed.
    until("checkpoints are gone", lambda: not [name for name in store.list("runs") if "checkpoint" in name])
    orphan = store.put(b"PAR1 of a cut that was killed")

    def collect(*options: str) -> dict[str, dict[str, int]]:
        done = headrace("gc", *options, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, dict[str, int]] = {fate: {} for fate in ("removed", "marked", "young", "kept")}
        for each in json.loads(done.stdout)["objects"]:
            found[each["fate"]][each["kind"]] = each["objects"]
        return found

    assert collect()["young"]["parts of datasets"] == 1
    age(store)
    assert collect("--dry-run")["marked"]["parts of datasets"] == 1
    assert store.read(MARKS) in (None, b"{}")
    assert collect()["marked"]["parts of datasets"] == 1
    age(store)
    gone = collect()
    assert gone["removed"]["parts of datasets"] == 1
    assert {"datasets", "versions"} <= gone["kept"].keys()
    assert f"sha256/{orphan.digest[7:9]}/{orphan.digest[7:]}" not in store.list("sha256")
    for dataset in registry.datasets("digits"):
        manifest = Manifest.from_json(store.get(dataset.frozen.manifest))
        rows = DatasetReader(manifest, store).columns_of()
        assert sum(len(columns["digit"]) for columns in rows.values()) == manifest.rows
    for version in registry.versions("digits"):
        for artifact in (version.trained.graph, version.trained.weights, *(each.graph for each in version.variants)):
            assert store.get(artifact)
    assert headrace("report", "digits", "--output", str(platform.home / "report.html")).returncode == 0
    assert headrace("where", "digits:0:0").returncode == 0
    assert "removed, needed by nothing" not in headrace("gc").stdout
