"""One story over every service: from a prediction back to the records, and from a record on to the model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from headrace_client import InferenceClient

pytestmark = pytest.mark.e2e

EDGES = [
    ("ingestion", "preprocessing"),
    ("preprocessing", "model-registry"),
    ("model-registry", "trainer"),
    ("trainer", "model-registry"),
    ("model-registry", "compressor"),
    ("compressor", "model-registry"),
    ("model-registry", "inference"),
]


def edges(roots: list[dict[str, Any]]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for node in roots:
        for child in node["children"]:
            if child["service"] != node["service"]:
                found.setdefault((node["service"], child["service"]))
        found |= dict.fromkeys(edges(node["children"]))
    return list(found)


def traced(headrace: Callable[..., Any], wanted: str) -> list[dict[str, Any]]:
    """Return the story as the command prints it, once the services have written their spans."""
    deadline = time.monotonic() + 20
    while True:
        result = headrace("trace", wanted, "--json")
        roots: list[dict[str, Any]] = json.loads(result.stdout) if result.returncode == 0 else []
        # Each service writes its spans when it comes to it: those of one may be there before those of another.
        if set(EDGES) <= set(edges(roots)) or time.monotonic() > deadline:
            break
        threading.Event().wait(0.2)
    assert result.returncode == 0, result.stderr
    return roots


def test_a_prediction_is_traced_back_through_every_service(
    headrace: Callable[..., Any], inference: InferenceClient, released: dict[str, Any]
) -> None:
    result = inference.infer("digits", {"pixels": np.zeros((1, 8, 8), np.float32)})
    roots = traced(headrace, str(result.parameters["prediction_id"]))
    assert set(EDGES) <= set(edges(roots))


def test_a_record_is_traced_on_to_the_model(headrace: Callable[..., Any], released: dict[str, Any]) -> None:
    # The newest batches are linked to the freeze of their dataset, and on a slow machine there are more than those.
    end = next(each["end"] for each in released["dataset"]["sources"] if each["partition"] == 0)
    roots = traced(headrace, f"digits:0:{end - 1}")
    assert [root["service"] for root in roots] == ["ingestion"]
    assert set(EDGES) <= set(edges(roots))


def test_a_dataset_shows_its_story_to_a_person(headrace: Callable[..., Any], released: dict[str, Any]) -> None:
    dataset_id = released["dataset"]["dataset_id"]
    result = headrace("trace", dataset_id)
    assert result.returncode == 0, result.stderr
    assert "freeze" in result.stdout
    assert "trainer" in result.stdout


def test_what_nobody_knows_is_said(headrace: Callable[..., Any], released: dict[str, Any]) -> None:
    result = headrace("trace", "no-such-thing")
    assert result.returncode == 1
    assert "no-such-thing" in result.stderr
