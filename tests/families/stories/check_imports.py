"""A network that was made in Keras and saved becomes a version that learned on a stream, and answers."""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headrace_client import InferenceClient, RegistryClient
from headrace_local.launcher import Platform

EXAMPLE = Path(__file__).parents[3] / "examples" / "seed-mlp"
PARAMETERS = 1000 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
SEEN, ROWS, ASKED = 2000, 300, 500
"""Rows that the file has learned from, those of the stream, and those that both are asked about."""
LATER = 8000
"""Rows from here on are sent by no producer, and the program that made the network did not use them either."""

pytestmark = [
    pytest.mark.timeout(900),
    # Of Keras's own, where it makes arrays of tensors.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_network_made_in_keras_learns_on_and_is_served(
    suffix: str, platform: Platform, run: Callable[..., str], tmp_path: Path
) -> None:
    name, model = f"seed-mlp-{suffix.removeprefix('.')}", tmp_path / f"model{suffix}"
    plain = f"{name}-plain"
    # Keras warns that .h5 is an older format; that is what this is about.
    made = run(sys.executable, "-W", "ignore", str(EXAMPLE / "keras_model.py"), str(model), "--rows", str(SEEN))
    assert f"saved {PARAMETERS:,} parameters" in made

    headrace = str(Path(sys.executable).parent / "headrace")
    brought, own = pipeline(tmp_path, name, topic=name), pipeline(tmp_path, plain, topic=name)
    run(headrace, "import", name, str(model), "--pipeline", brought, "--create-topic")
    run(headrace, "apply", own)
    run(sys.executable, str(EXAMPLE / "produce.py"), "--topic", name, "--rows", str(ROWS))
    for each in (name, plain):
        version = json.loads(run(headrace, "wait", each, "--timeout", "10m", "--json"))["version"]
        assert version["state"] == "released"
    with RegistryClient(platform.addresses["registry"]) as registry:
        assert registry.versions(name)[-1].trained.epochs >= 1

    features, classes = rows()
    with InferenceClient(platform.addresses["inference"]) as inference:
        learned, alone = (
            float(np.mean(inference.infer(each, {"features": features}).outputs["label"] == classes))
            for each in (name, plain)
        )
    before = share_right(model, features, classes)
    print(f"{suffix}: {before:.3f} right as it was saved, {learned:.3f} after the stream, {alone:.3f} by that alone")
    assert learned > before + 0.05
    assert learned > alone + 0.05


def pipeline(folder: Path, name: str, topic: str) -> str:
    """Return the path of the example's pipeline under another name, which freezes a dataset of all rows."""
    document = (EXAMPLE / "pipeline.yaml").read_text()
    for given, wanted in (
        ("name: seed-mlp", f"name: {name}"),
        ("topic: seed-mlp", f"topic: {topic}"),
        ("afterRecords: 5000", f"afterRecords: {ROWS}"),
    ):
        assert document.count(given) == 1
        document = document.replace(given, wanted)
    file = folder / f"{name}.yaml"
    file.write_text(document)
    return str(file)


def rows() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return features, [rows, 1000], and classes that nothing was trained on."""
    examples = runpy.run_path(str(EXAMPLE / "produce.py"))["examples"]
    features, classes = zip(*islice(examples(), LATER, LATER + ASKED), strict=True)
    return np.stack(features).astype(np.float32), np.array(classes)


def share_right(model: Path, features: np.ndarray[Any, Any], classes: np.ndarray[Any, Any]) -> float:
    """Return how many of the rows a file of Keras answers rightly."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    answers = keras.saving.load_model(model, compile=False).predict(features, verbose=0)
    return float(np.mean(answers.argmax(axis=1) == classes))
