"""The stream changes, a new version is trained on it and takes over, and no caller notices more than better answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from headrace_client import InferenceClient, RegistryClient
from headrace_client.stages import Goal
from headrace_client.waiting import wait_for, wait_served
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_runtime.object_store import ObjectStore
from kafka import KafkaProducer
from scipy import ndimage
from sklearn.datasets import load_digits

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

NAME = "digits-swap"
PIPELINE = f"""
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {NAME}}}
stream:
  topic: {NAME}
  format: json
  key: id
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: image, type: string, role: group}}
    - {{name: pixels, type: float32, shape: [8, 8], role: feature, range: [0, 16]}}
    - {{name: digit, type: int64, role: label, range: [0, 9]}}
prepare:
  transform: {{pixels: {{scale: standard}}}}
  split: {{train: 0.7, validation: 0.15, test: 0.15, salt: headrace}}
  freeze: {{afterRecords: 1797}}
train:
  network: {{kind: mlp, hidden: [64]}}
  optimizer: {{kind: adam, learningRate: 0.003}}
  epochs: 12
  batchSize: 64
  seed: 7
compress:
  variants: [{{kind: int8-dynamic}}]
serve: {{cache: redis, cacheTtl: 60s}}
"""
CALLS = 2000

Image = npt.NDArray[np.float64]


def scanned() -> Iterator[dict[str, Any]]:
    """Yield the digits as records: the id is new for each record, the image names the original."""
    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        yield {"id": f"{number}-scanned", "image": f"{number}", "pixels": pixels, "digit": int(digit)}


def disturbed() -> Iterator[dict[str, Any]]:
    """Yield the same digits turned by up to 30 degrees, fainter and noisy."""
    random = np.random.default_rng(7)
    for record in scanned():
        turned = ndimage.rotate(record["pixels"], random.uniform(-30, 30), reshape=False, order=1)
        faint = turned * random.uniform(0.5, 0.9) + random.normal(0, 1, turned.shape)
        yield {**record, "id": f"{record['image']}-disturbed", "pixels": np.clip(faint, 0, 16)}


def send(platform: Platform, records: Iterator[dict[str, Any]]) -> float:
    """Send records; return the time (`time.monotonic`) at which Kafka had the last one."""
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers, linger_ms=20)
    for record in records:
        value = json.dumps({**record, "pixels": record["pixels"].tolist()}).encode()
        producer.send(NAME, value, key=record["image"].encode())
    producer.flush()
    producer.close()
    return time.monotonic()


def columns(platform: Platform, dataset: Any) -> tuple[dict[str, set[str]], dict[str, npt.NDArray[Any]]]:
    """Return the images in each split of a dataset, and its test rows."""
    store = ObjectStore(platform.connections.store_url)
    reader = DatasetReader(Manifest.from_json(store.get(dataset.frozen.manifest)), store)
    images = {
        split: {image for batch in reader.batches(split) for image in batch.column("image").to_pylist()}
        for split in ("train", "validation", "test")
    }
    return images, reader.columns("test")


def test_a_changed_stream_becomes_a_better_version_and_no_call_fails(
    platform: Platform, registry: RegistryClient, inference: InferenceClient, closed_loop: Any
) -> None:
    registry.apply(PIPELINE, create_topic=True)
    send(platform, scanned())
    wait_for(registry, NAME, Goal.RELEASED, timeout_s=150)
    (first,) = registry.datasets(NAME)
    assert wait_served(inference, registry.releases(NAME)[-1].released, timeout_s=60)
    images = load_digits().images.astype(np.float32)

    def make_caller() -> Any:
        random = np.random.default_rng()
        return lambda: inference.infer(NAME, {"pixels": images[random.integers(len(images), size=1)]})

    with ExitStack() as stack:
        load = closed_loop(stack, make_caller)
        load.wait_calls(CALLS // 4)
        sent_s = send(platform, disturbed())
        wait_for(registry, NAME, Goal.RELEASED, timeout_s=150, after=first.frozen.dataset_id)
        load.wait(lambda answer: answer.version == "2")
        served_s = time.monotonic()
        load.wait_calls(max(CALLS // 4, CALLS - len(load.calls())))
    assert load.failed() == []
    calls = load.calls()
    assert len(calls) >= CALLS
    assert {call.answer.version for call in calls} == {"1", "2"}
    first_new = min(call.ended_s for call in calls if call.answer.version == "2")
    assert {call.answer.version for call in calls if call.started_s > first_new} == {"2"}
    print(f"\n{len(calls)} calls, failed=0, last record to new version served: {served_s - sent_s:.1f} s")

    second = registry.datasets(NAME)[-1]
    (old_images, _), (new_images, test) = columns(platform, first), columns(platform, second)
    assert old_images == new_images  # an image stays on its side, whichever copy of it comes
    answers = {
        version: inference.infer(NAME, {"pixels": test["pixels"]}, version=version).outputs["label"]
        for version in ("1", "2")
    }
    right = {version: float((labels == test["digit"]).mean()) for version, labels in answers.items()}
    assert right["2"] > right["1"]
