"""A plain producer's records come out as gRPC predictions, through all six services."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import redis
from headrace_client import InferenceClient, RegistryClient
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_engines.processors import own_class
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.record_topics import dead_topic
from kafka import KafkaConsumer, TopicPartition

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

RECORDS = 1797
LEAST_ACCURACY = 0.96
REJECTED = {"json": 1, "missing": 1, "shape": 1, "type": 1, "outOfRange": 1, "duplicates": 1}

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def manifest(platform: Platform, registry: RegistryClient, released: dict[str, Any]) -> Manifest:
    store = ObjectStore(platform.connections.store_url)
    return Manifest.from_json(store.get(registry.datasets("digits")[-1].frozen.manifest))


@pytest.fixture(scope="module")
def held_out(platform: Platform, manifest: Manifest) -> tuple[Array, Array]:
    columns = DatasetReader(manifest, ObjectStore(platform.connections.store_url)).columns("test")
    return columns["pixels"], columns["digit"]


def test_every_record_is_in_the_dataset_or_rejected_with_the_rule(manifest: Manifest) -> None:
    assert manifest.rows == RECORDS
    assert manifest.provenance.rejected == REJECTED
    assert manifest.classes == tuple(range(10))
    sizes = {name: split.rows / RECORDS for name, split in manifest.splits.items()}
    assert sizes == pytest.approx({"train": 0.70, "validation": 0.15, "test": 0.15}, abs=0.04)
    assert sum(source.end - source.start for source in manifest.provenance.sources) == RECORDS + sum(REJECTED.values())


def test_rejected_records_lie_in_the_dead_letter_topic(platform: Platform, released: dict[str, Any]) -> None:
    topic = dead_topic("digits")
    consumer = KafkaConsumer(bootstrap_servers=platform.bootstrap_servers, isolation_level="read_committed")
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(partitions)
    letters = []
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        letters += [letter for batch in consumer.poll(1000).values() for letter in batch]
    consumer.close(autocommit=False)
    headers = [{name: value.decode() for name, value in letter.headers} for letter in letters]
    assert Counter(item["dead-rule"] for item in headers) == REJECTED
    assert all(item["dead-topic"] == "digits" and item["dead-reason"] for item in headers)
    assert {item["dead-stage"] for item in headers} == {"ingestion", "preprocessing"}


def test_the_version_learned_and_its_variants_were_judged(registry: RegistryClient, released: dict[str, Any]) -> None:
    version = registry.versions("digits")[-1]
    assert version.trained.metrics["accuracy"] >= LEAST_ACCURACY
    assert {f"accuracy/{digit}" for digit in range(10)} <= set(version.trained.metrics)
    assert {"log_loss", "calibration_error"} <= set(version.trained.metrics)
    variants = {variant.name: dict(variant.metrics) for variant in version.variants}
    assert list(variants) == ["fp32", "int8"]
    int8 = variants["int8"]
    assert int8["size_bytes"] < variants["fp32"]["size_bytes"]
    assert int8["agreement"] >= 0.98
    assert {"latency_ms_batch_1", "latency_ms_batch_32", "relative_logit_error"} <= set(int8)
    judged = {gate.variant for gate in version.gates}
    assert judged == set(variants)
    assert {"latency_p99_ms_batch_1", "memory_bytes", "difference_error"} <= set(int8)
    assert int8["non_finite_rows"] == int8["unrepeatable_rows"] == 0
    assert version.frontier
    assert set(version.frontier) <= set(variants)
    release = registry.releases("digits")[-1].released
    assert (release.alias, release.epoch, release.ordinal) == ("champion", 1, 1)
    (measured,) = release.classes
    assert measured.cpu_class == version.cpu_class == own_class()
    assert (measured.variants[0].variant, release.unmeasured.variant) == (release.variant, "fp32")
    assert release.version_id == version.trained.version_id
    assert release.dataset_id == registry.datasets("digits")[-1].frozen.dataset_id


def test_predictions_are_right_over_the_network_and_hot_the_second_time(
    platform: Platform, inference: InferenceClient, held_out: tuple[Array, Array]
) -> None:
    pixels, digits = held_out
    redis.Redis.from_url(platform.redis_url).flushall()
    first = [inference.infer("digits", {"pixels": image[np.newaxis]}) for image in pixels]
    second = [inference.infer("digits", {"pixels": image[np.newaxis]}) for image in pixels]
    answers = np.array([result.outputs["label"][0] for result in first])
    assert (answers == digits).mean() >= LEAST_ACCURACY
    assert np.array_equal(answers, [result.outputs["label"][0] for result in second])
    for cold, hot in zip(first, second, strict=True):
        np.testing.assert_array_equal(cold.outputs["probabilities"], hot.outputs["probabilities"])
    assert sum(result.cached for result in second) == len(pixels)
    identities = [result.parameters["prediction_id"] for result in first + second]
    assert len(set(identities)) == 2 * len(pixels)
    assert {result.version for result in first} == {"1"}


def test_the_graph_takes_raw_features_and_agrees_with_a_batch(
    inference: InferenceClient, held_out: tuple[Array, Array]
) -> None:
    pixels, digits = held_out
    result = inference.infer("digits", {"pixels": pixels})
    assert result.outputs["probabilities"].shape == (len(pixels), 10)
    np.testing.assert_allclose(result.outputs["probabilities"].sum(axis=1), 1, atol=1e-5)
    assert (result.outputs["label"] == digits).mean() >= LEAST_ACCURACY


def test_answers_stay_right_without_valkey(
    platform: Platform, inference: InferenceClient, held_out: tuple[Array, Array]
) -> None:
    pixels, _ = held_out
    expected = inference.infer("digits", {"pixels": pixels[:50]}).outputs["label"]
    client = redis.Redis.from_url(platform.redis_url)
    client.execute_command("CLIENT", "PAUSE", "3000", "ALL")
    try:
        answers = [inference.infer("digits", {"pixels": image[np.newaxis]}) for image in pixels[:50]]
    finally:
        client.close()
    assert [result.outputs["label"][0] for result in answers] == expected.tolist()
    assert not any(result.cached for result in answers)


def test_the_command_line_shows_all_of_it(
    headrace: Callable[..., Any], released: dict[str, Any], held_out: tuple[Array, Array]
) -> None:
    for what in ("pipelines", "datasets", "runs", "versions", "releases"):
        result = headrace("get", what, "--json")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout), what
        assert headrace("get", what).stdout
    pixels, _ = held_out
    rows = "\n".join(json.dumps({"pixels": image.tolist()}) for image in pixels[:5])
    predicted = headrace("predict", "digits", "--json", stdin=rows)
    assert predicted.returncode == 0, predicted.stderr
    there = headrace("predict", "digits", "--on-server", "--batch", "5", "--json", stdin=rows)
    assert there.returncode == 0, there.stderr
    assert [each["label"] for each in json.loads(there.stdout)] == [
        each["label"] for each in json.loads(predicted.stdout)
    ]
    status = headrace("status", "--json")
    assert status.returncode == 0, status.stderr
    assert headrace("wait", "digits", "--timeout", "5s").returncode == 0
