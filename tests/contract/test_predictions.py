"""Predictions on their way: from inference into Kafka, and found there by the registry."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from headrace.events.v1.prediction_pb2 import PredictionServed, PredictionsServed
from headrace_inference.adapters.prediction_log import PredictionLog
from headrace_inference.core.releases import CachePolicy, Graph, Release
from headrace_inference.core.served import MAX_EVENT_PART_BYTES, Served
from headrace_inference.transport.converters import to_served
from headrace_model_registry.adapters.predictions import KafkaPredictions
from headrace_model_registry.core.served import PredictionServed as KeptPrediction
from headrace_model_registry.transport.converters import from_message
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode, new_id
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import PREDICTION_SERVED
from kafka import KafkaProducer

pytestmark = pytest.mark.contract

RELEASE = Release(
    model="digits",
    alias="champion",
    epoch=1,
    version_id="sha256:" + "ab" * 32,
    ordinal=1,
    variant="fp32",
    graph=Graph("memory://graph", "sha256:" + "cd" * 32, 1),
    dataset_id="dataset",
    run_id="run",
    cache=CachePolicy.OFF,
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker of its own: what is no prediction stays in the topic, which others read."""
    from headrace_local.launcher import Platform

    with Platform.on_free_ports(tmp_path_factory.mktemp("predictions"), services=()) as broker:
        yield KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)


def served(request: bytes = b"asked", answer: bytes = b"told") -> Served:
    return Served(RELEASE, new_id(), 1, False, 0.001, request, answer, "")


def in_kafka(settings: KafkaSettings) -> dict[str, PredictionServed]:
    with LogReader(settings, "test") as reader:
        places = reader.partitions(PREDICTION_SERVED.name)
        reader.start_at(dict.fromkeys(places))
        records = [record for read in reader.read_to(reader.ends(places)) for record in read]
    found = [one for record in records for one in decode(record, PredictionsServed).predictions]
    return {one.prediction_id: one for one in found}


def test_large_parts_are_left_out_before_they_wait(settings: KafkaSettings) -> None:
    large, small = bytes(MAX_EVENT_PART_BYTES + 1), bytes(MAX_EVENT_PART_BYTES)
    added = [served(large, b"told"), served(b"asked", large), served(small, small)]
    log = PredictionLog(settings, "test", to_served)
    for one in added:
        log.add(one)
    kept = [(b"", b"told"), (b"asked", b""), (small, small)]
    assert [(one.request, one.answer) for one, *_ in log._events._waiting] == kept
    assert log._events._held_bytes == sum(len(request) + len(answer) for request, answer in kept)
    log.start()
    log.stop()
    arrived = in_kafka(settings)
    assert [(arrived[one.prediction_id].request, arrived[one.prediction_id].response) for one in added] == kept


def test_calls_of_a_release_that_withholds_them_are_told_without_what_was_asked(settings: KafkaSettings) -> None:
    told, withheld = (
        served(b"ada@", b"asked"),
        served(b"ada@", b"ada@")._replace(release=replace(RELEASE, withholds=True)),
    )
    log = PredictionLog(settings, "test", to_served)
    log.start()
    log.add(told)
    log.add(withheld)
    log.stop()
    arrived = in_kafka(settings)
    assert arrived[told.prediction_id].request == b"ada@"
    kept = arrived[withheld.prediction_id]
    assert (kept.request, kept.response, kept.version_id, kept.rows) == (b"", b"", RELEASE.version_id, 1)


def test_what_is_no_prediction_is_passed_over(settings: KafkaSettings) -> None:
    one, began_ms = served(), round(time.time() * 1000)
    producer = KafkaProducer(**settings.kafka_client())

    def send_strange() -> None:
        for partition in producer.partitions_for(PREDICTION_SERVED.name):
            producer.send(PREDICTION_SERVED.name, b"\xff\xff", partition=partition)
            producer.send(PREDICTION_SERVED.name, None, key=b"no value", partition=partition)
        producer.flush()

    send_strange()
    log = PredictionLog(settings, "test", to_served)
    log.start()
    log.add(one)
    log.stop()
    send_strange()
    producer.close()
    now_ms = round(time.time() * 1000)
    predictions = KafkaPredictions(settings, partial(from_message, KeptPrediction))
    found = predictions.starting_with(one.prediction_id[:-1], began_ms, now_ms)
    assert list(found) == [one.prediction_id]
