"""The recommender on a platform: its records, its version beside LightGBM's, and the best of all films in one call."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from headrace_client import RegistryClient
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_data.tasks.ranking import measures_of
from headrace_local.launcher import Platform
from headrace_runtime.object_store import ObjectStore

EXAMPLE = Path(__file__).parents[3] / "examples" / "recommender"

pytestmark = pytest.mark.timeout(1800)


def test_visitors_who_were_never_seen_get_what_they_would_watch(
    platform: Platform, run: Callable[..., str], tmp_path: Path
) -> None:
    headrace = str(Path(sys.executable).parent / "headrace")
    run(headrace, "apply", str(EXAMPLE / "pipeline.yaml"), "--create-topic")
    run(sys.executable, str(EXAMPLE / "produce.py"))
    version = json.loads(run(headrace, "wait", "recommender", "--timeout", "20m", "--json"))["version"]
    print(run(headrace, "get", "versions", "recommender"))
    metrics = version["metrics"]
    famous, grown = others(platform)
    for name, found in (("two towers", metrics), ("LightGBM", grown), ("most famous", famous)):
        print(name, {measure: round(found[measure], 4) for measure in famous})
    assert metrics["ndcg_at_10"] > grown["ndcg_at_10"] > famous["ndcg_at_10"] > metrics["baseline_ndcg_at_10"]
    assert metrics["recall_at_10"] > famous["recall_at_10"]

    run(headrace, "report", "recommender", "--output", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "Answered and true" in page
    assert "Importance of features" in page

    told = run(sys.executable, str(EXAMPLE / "recommend.py"), "--visitors", "40")
    print("\n".join(told.splitlines()[:6]))
    chances = [
        [int(share) for share in found] for found in re.findall(r"of 10, (\d+)% .* most famous ones (\d+)%", told)
    ]
    watched, instead = np.mean(chances, axis=0)
    print(f"of 10 recommended films {watched:.0f} % would be watched, of the 10 most famous ones {instead:.0f} %")
    assert len(chances) == 40
    assert watched > 1.3 * instead


def others(platform: Platform) -> tuple[dict[str, float], dict[str, float]]:
    """Return what the order by fame scores on the test split, and LightGBM's lambdarank with settings of its own."""
    store = ObjectStore(platform.connections.store_url)
    with RegistryClient(platform.addresses["registry"]) as registry:
        manifest = Manifest.from_json(store.get(registry.datasets("recommender")[-1].frozen.manifest))
    reader = DatasetReader(manifest, store, grouped=True)
    train, test = reader.columns("train"), reader.columns("test")
    order = np.argsort(train["watched"][:, 1], kind="stable")
    _, sizes = np.unique(train["watched"][:, 1], return_counts=True)
    data = lightgbm.Dataset(table(train)[order], train["watched"][order, 0], group=sizes)
    grown = lightgbm.train({"objective": "lambdarank", "num_threads": 1, "verbosity": -1}, data)
    scores: Any = grown.predict(table(test))
    return measures_of(test["fame"], test["watched"]), measures_of(scores.astype(np.float32), test["watched"])


def table(columns: dict[str, Any]) -> Any:
    """Return the features side by side."""
    return np.concatenate([columns["profile"], columns["genres"], columns["fame"][:, np.newaxis]], axis=1)
