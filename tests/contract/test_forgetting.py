"""A key is forgotten on a real broker: killed before the answer, answered once, and never let in again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from headrace.events.v1 import dataset_pb2, forget_pb2, pipeline_pb2
from headrace_data.forgotten import forgotten, secret_id, secrets_folder
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.record_topics import dead_topic, raw_topic
from headrace_runtime.topics import PREDICTION_SERVED
from kafka import KafkaProducer

from .lanes import keys, sound

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]

SECRET = b"0123456789abcdef" * 2
ADA = 1_815_121_000_000_000_117
DEPTH = 4321.0625
TRACES = (str(ADA), str(DEPTH), ADA.to_bytes(8, "little").decode("latin1"))
WEEK_S = 7 * 24 * 3_600


def with_ada(start: int, stop: int) -> list[dict[str, Any]]:
    return [*sound(start, stop), {**sound(start, start + 1)[0], "key": ADA, "depth": DEPTH}]


def found(lane: Any) -> list[str]:
    """Return the traces of the key that the store has, in bytes and in what files of rows read as."""
    files = [path for path in Path(lane.settings.store_url).rglob("*") if path.is_file()]
    told = [path.read_bytes().decode("latin1") for path in files]
    told += [repr(pq.read_table(path).to_pydict()) for path in files if path.read_bytes()[:4] == b"PAR1"]
    return [trace for trace in TRACES if any(trace in text for text in told)]


def ask(lane: Any, request: str) -> None:
    made = forgotten(str(ADA), SECRET)
    spec = pipeline_pb2.PipelineSpec(json=lane.pipeline.canonical_json(), digest=lane.pipeline.digest)
    key = forget_pb2.KeyDigest(secret=made.secret, digest=made.digest)
    order = forget_pb2.Forget(key=key, specs=[spec], retrain=True)
    asked = dataset_pb2.DatasetRequested(pipeline=lane.name, request_id=request, forget=order)
    lane._write(encode(asked, source="test"))


def test_a_key_that_three_datasets_had_is_forgotten_once_whoever_is_killed(
    lanes: Callable[..., Any], start: Callable[..., Any], until: Callable[..., None]
) -> None:
    lane = lanes("{afterRecords: 40}\n  window: all")
    lane.change(duplicates="keep")
    lane.apply()
    store = ObjectStore(lane.settings.store_url)
    store.write(f"{secrets_folder(lane.name)}/{secret_id(SECRET)}", SECRET)
    child, records = start(), [with_ada(60 * cut, 60 * cut + 59 - cut) for cut in range(3)]
    for cut, sent in enumerate(records):
        with KafkaProducer(**lane.settings.kafka_client()) as producer:
            for record in sent:
                producer.send(lane.name, json.dumps(record).encode(), partition=cut)
        lane.send((cut, sent))
        until(lambda cut=cut: len(lane.frozen()) == cut + 1)
    before, segments = lane.frozen(), [entry.segment_id for entry in lane.history().entries]
    assert found(lane)
    assert [keys(lane.dataset_rows(each)).count(ADA) for each in before] == [1, 2, 3]
    child.arm("transaction")
    ask(lane, "forget")
    child.wait_held("transaction")
    child.kill()
    assert not lane.facts(forget_pb2.KeyForgotten)
    start(instance="1")
    until(lambda: len(lane.frozen()) == 4)

    (told,) = lane.facts(forget_pb2.KeyForgotten)
    assert (told.request_id, told.left) == ("forget", [])
    assert {each.segment_id: each.rows for each in told.segments} == dict.fromkeys(segments, 1)
    counts = {each.dataset_id: each.train + each.validation + each.test for each in told.datasets}
    assert counts == {each.dataset_id: place for place, each in enumerate(before, 1)}
    assert found(lane) == []
    assert [entry.segment_id for entry in lane.history().entries] == segments
    assert [lane.manifest(each).dataset_id for each in before] == [each.dataset_id for each in before]
    assert [len(lane.dataset_rows(each)) for each in before] == [59, 117, 174]
    (*_, after) = lane.frozen()
    assert after.dataset_id not in counts
    assert keys(lane.dataset_rows(after)) == keys(lane.dataset_rows(before[-1]))
    assert not lane.failed()
    until_s = {each.topic: each.end_time.seconds for each in told.topics}
    assert set(until_s) >= {lane.name, raw_topic(lane.name), dead_topic(lane.name), PREDICTION_SERVED.name}
    assert all(second == 0 or second > WEEK_S for second in until_s.values())

    # Neither what comes later, nor what is made again of the producers' topic, has the key.
    lane.send((0, with_ada(400, 460)))
    until(lambda: len(lane.frozen()) == 5)
    lane.send((0, [{**with_ada(0, 0)[0], "value": [DEPTH, 0.5]}]))
    until(lambda: len(lane.dead()) == 2)
    lane.backfill("again", topic={"topic": lane.name}, rebuild=True)
    until(lambda: len(lane.frozen()) == 6)
    assert [keys(lane.dataset_rows(each)).count(ADA) for each in lane.frozen()] == [0] * 6
    assert found(lane) == []
    assert lane.frozen()[4].rejected["forgotten"] == 4
    letters = [(record.header("dead-rule"), record.key, record.value) for record in lane.dead()]
    assert letters == [("forgotten", None, b"{}"), ("outOfRange", None, b"{}")]
    assert not any(trace in repr(record) for record in lane.dead() for trace in TRACES)
