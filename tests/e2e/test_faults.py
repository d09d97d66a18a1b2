"""What the services lean on breaks: the broker, the cache, the registry. Records and answers stay as they were."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import redis
from headrace.events.v1 import record_pb2
from headrace_client import InferenceClient, RegistryClient
from headrace_client.errors import HeadraceClientError, Unreachable
from headrace_data.batches import from_ipc
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.record_topics import clean_topic, dead_topic, raw_topic
from headrace_runtime.records import Record
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RIVER = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: river}
stream:
  topic: river
  format: json
  key: id
  schema:
    - {name: id, type: string, role: id}
    - {name: level, type: float32, unit: metre, role: feature, range: [0, 20]}
    - {name: flood, type: int64, role: label, range: [0, 1]}
prepare:
  transform: {level: {scale: standard}}
train:
  network: {kind: mlp, hidden: [4]}
  optimizer: {kind: adam, learningRate: 0.01}
  epochs: 1
"""
BEFORE, AFTER = 300, 300
"""Records that must have been acknowledged before the broker is killed, and after it is back."""
IMAGES = 40
SILENT_ROUNDS = 25
"""How often all images are asked for while the cache is silent."""
BREAKER_FAILURES, BREAKER_PAUSE_S = 5, 2.0
"""After so many failures in a row the cache is left alone for so many seconds."""

Array = npt.NDArray[Any]
Until = Callable[..., Any]
Committed = Callable[["Platform", str], Sequence[Record]]


SENDER = """
import json, sys, threading
from kafka import KafkaProducer

def end():
    sys.stdin.read()
    stop.set()

def count(_):
    acknowledged.append(None)
    print(len(acknowledged), flush=True)

servers, topic = sys.argv[1:]
stop, sent, acknowledged = threading.Event(), [], []
threading.Thread(target=end, daemon=True).start()
producer = KafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5)
while not stop.wait(0.01):
    name = f"drop-{len(sent):06d}"
    value = json.dumps({"id": name, "level": len(sent) % 20, "flood": len(sent) % 2})
    sent.append(producer.send(topic, value.encode(), key=name.encode()))
    sent[-1].add_callback(count)
producer.flush()
for future in sent:
    future.get(timeout=60)
producer.close()
print(f"sent {len(sent)}", flush=True)
"""
"""A producer that sends records until its standard input closes, whatever happens to the broker."""


class Sender:
    """Runs the producer and counts what was acknowledged."""

    def __init__(self, platform: Platform, topic: str) -> None:
        command = [sys.executable, "-c", SENDER, platform.bootstrap_servers, topic]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self.acknowledged = 0
        self._sent: int | None = None

    def __enter__(self) -> Sender:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._reader.join()
        self._process.wait()

    def finish(self) -> list[str]:
        """Stop sending, wait until everything is acknowledged, and return the ids sent."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=180) == 0
        self._reader.join()
        assert self._sent is not None
        return [f"drop-{number:06d}" for number in range(self._sent)]

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                *sent, number = line.split()
                if sent:
                    self._sent = int(number)
                else:
                    self.acknowledged = int(number)


@pytest.fixture
def river(tmp_path: Path) -> Iterator[Platform]:
    from headrace_local.launcher import Platform
    from headrace_runtime.services import SERVICES

    needed = [SERVICES[name] for name in ("ingestion", "preprocessing", "model-registry")]
    with Platform.on_free_ports(tmp_path, services=needed) as started:
        yield started


def test_a_broker_killed_in_mid_stream_loses_and_doubles_nothing(
    river: Platform, until: Until, committed: Committed
) -> None:
    with RegistryClient(river.addresses["registry"]) as registry:
        registry.apply(RIVER, create_topic=True)
    with Sender(river, "river") as sender:
        until("records before the kill", lambda: sender.acknowledged >= BEFORE)
        until("clean records before the kill", lambda: _ids(committed(river, clean_topic("river"))))
        river.signal("kafka", signal.SIGKILL)
        before = sender.acknowledged
        until("records after the kill", lambda: sender.acknowledged >= before + AFTER)
        sent = sender.finish()
    until("every record is clean", lambda: len(_ids(committed(river, clean_topic("river")))) >= len(sent))
    for topic in (raw_topic("river"), clean_topic("river")):
        assert sorted(_ids(committed(river, topic))) == sent
    assert not committed(river, dead_topic("river"))


def _ids(records: Sequence[Record]) -> list[str]:
    batches = [record_pb2.RecordBatch.FromString(record.value or b"") for record in records]
    return [name for batch in batches for name in from_ipc(batch.arrow).column("id").to_pylist()]


class Caller:
    """Asks for the same images again and again, and compares each answer with the one that was computed."""

    def __init__(self, platform: Platform, inference: InferenceClient, images: Array) -> None:
        self._platform = platform
        self._inference = inference
        self._images = images
        self.cache = redis.Redis.from_url(platform.redis_url)
        self.cache.flushall()
        self._expected = [self._answer(image) for image in images]
        self._pid = platform.pid("inference")

    def check(self) -> int:
        """Ask for every image; return how many answers were cached."""
        cached = 0
        for image, (label, probabilities, _) in zip(self._images, self._expected, strict=True):
            answer = self._answer(image)
            assert answer[:2] == (label, probabilities)
            cached += answer[2]
        return cached

    def hot(self) -> bool:
        """Return whether the cache answers everything, as it should when nothing is wrong with it."""
        return self.check() == len(self._images)

    def stayed_up(self) -> bool:
        return self._platform.pid("inference") == self._pid

    def _answer(self, image: Array) -> tuple[int, bytes, bool]:
        result = self._inference.infer("digits", {"pixels": image[np.newaxis]})
        return int(result.outputs["label"][0]), result.outputs["probabilities"].tobytes(), result.cached


@pytest.fixture(scope="module")
def caller(
    platform: Platform, registry: RegistryClient, inference: InferenceClient, released: dict[str, Any]
) -> Caller:
    store = ObjectStore(platform.connections.store_url)
    manifest = Manifest.from_json(store.get(registry.datasets("digits")[-1].frozen.manifest))
    images: Array = DatasetReader(manifest, store).columns("test")["pixels"][:IMAGES]
    return Caller(platform, inference, images)


def _kill(platform: Platform, caller: Caller) -> None:
    platform.signal("valkey", signal.SIGKILL)


def _flush(platform: Platform, caller: Caller) -> None:
    caller.cache.flushall()


def _fill(platform: Platform, caller: Caller) -> None:
    caller.cache.config_set("maxmemory", 1)
    caller.cache.config_set("maxmemory-policy", "noeviction")
    caller.cache.flushall()


def _pause(platform: Platform, caller: Caller) -> None:
    caller.cache.client_pause(2000, all=True)


@pytest.mark.parametrize("harm", [_kill, _flush, _fill, _pause])
def test_answers_are_the_same_without_a_cache_that_works(
    platform: Platform, caller: Caller, until: Until, harm: Callable[[Platform, Caller], None]
) -> None:
    until("the cache is hot", caller.hot)
    harm(platform, caller)
    assert caller.check() < IMAGES
    until("the cache answers", lambda: _answers(caller.cache))
    caller.cache.config_set("maxmemory", "128mb")
    caller.cache.config_set("maxmemory-policy", "allkeys-lru")
    until("the cache is hot again", caller.hot)
    assert caller.stayed_up()


def _answers(cache: redis.Redis) -> bool:
    try:
        return bool(cache.ping())
    except redis.RedisError:
        return False


def test_a_cache_that_never_answers_is_hardly_ever_waited_for(platform: Platform, caller: Caller, until: Until) -> None:
    until("the cache is hot", caller.hot)
    before, started_s = _lookups(platform), time.monotonic()
    # It takes connections and commands, and says nothing.
    platform.signal("valkey", signal.SIGSTOP)
    try:
        for _ in range(SILENT_ROUNDS):
            caller.check()
        found, elapsed_s = _lookups(platform) - before, time.monotonic() - started_s
    finally:
        platform.signal("valkey", signal.SIGCONT)
    assert found.keys() <= {"error", "skipped"}
    assert found.total() == SILENT_ROUNDS * IMAGES
    # Nobody waits for longer than HEADRACE_REDIS_TIMEOUT_MS; after a few in a row, one call in each pause asks at all.
    assert found["error"] <= BREAKER_FAILURES + elapsed_s / BREAKER_PAUSE_S + 1
    until("the cache is hot again", caller.hot)
    assert caller.stayed_up()


def _lookups(platform: Platform) -> Counter[str]:
    """Return how many look-ups for the digits ended in which way."""
    address = platform.process("inference").environment["HEADRACE_METRICS_ADDRESS"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as page:
        families = text_string_to_metric_families(page.read().decode())
    return Counter(
        {
            sample.labels["outcome"]: int(sample.value)
            for family in families
            for sample in family.samples
            if sample.name == "headrace_inference_cache_lookups_total" and sample.labels["model"] == "digits"
        }
    )


RUBBISH: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "empty": lambda values: [b"" for _ in values],
    "random": lambda values: [np.random.default_rng(7).bytes(len(value)) for value in values],
    "cut": lambda values: [value[:-1] for value in values],
    "flipped": lambda values: [value[:-1] + bytes([value[-1] ^ 1]) for value in values],
    "exchanged": lambda values: [*values[1:], values[0]],
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish_under_the_very_keys_is_never_an_answer(caller: Caller, until: Until, kind: str) -> None:
    until("the cache is hot", caller.hot)
    keys = list(caller.cache.scan_iter("*"))
    found = zip(keys, caller.cache.mget(keys), strict=True)
    kept = {key: value for key, value in found if value and isinstance(value, bytes)}
    assert len(kept) >= IMAGES
    caller.cache.mset(dict(zip(kept, RUBBISH[kind](list(kept.values())), strict=True)))
    assert caller.check() == 0
    until("the cache is hot again", caller.hot)
    assert caller.stayed_up()


def test_values_of_another_type_under_the_very_keys_are_no_answers(caller: Caller, until: Until) -> None:
    until("the cache is hot", caller.hot)
    for key in list(caller.cache.scan_iter("*")):
        caller.cache.delete(key)
        caller.cache.rpush(key, "rubbish")
    assert caller.check() == 0
    until("the cache is hot again", caller.hot)
    assert caller.stayed_up()


def test_serving_goes_on_without_the_registry_and_without_the_object_store(
    platform: Platform, caller: Caller, inference: InferenceClient, until: Until
) -> None:
    store = Path(platform.connections.store_url)
    away = store.with_name("objects.away")
    platform.stop_process("model-registry")
    store.rename(away)
    try:
        with RegistryClient(platform.addresses["registry"], timeout_s=5) as registry, pytest.raises(Unreachable):
            registry.pipelines()
        caller.check()
        pid = platform.signal("inference", signal.SIGKILL)
        until("inference runs again", lambda: platform.pid("inference") not in (0, pid))
        until("inference serves again", lambda: _serves(inference))
        caller.check()
    finally:
        away.rename(store)
        platform.start_process("model-registry")
    with RegistryClient(platform.addresses["registry"], timeout_s=60) as registry:
        until("the registry is back", lambda: _knows(registry))


def _serves(inference: InferenceClient) -> bool:
    try:
        return inference.model_ready("digits")
    except HeadraceClientError:
        return False


def _knows(registry: RegistryClient) -> bool:
    try:
        return bool(registry.releases("digits"))
    except HeadraceClientError:
        return False


def test_serving_goes_on_without_the_broker_and_the_platform_comes_back(
    platform: Platform, caller: Caller, until: Until
) -> None:
    pid = platform.pid("inference")
    platform.stop_process("kafka")
    try:
        for _ in range(3):
            caller.check()
    finally:
        platform.start_process("kafka")
    assert platform.pid("inference") == pid
    with RegistryClient(platform.addresses["registry"], timeout_s=60) as registry:
        until("the registry writes again", lambda: _applies(registry), 240)
    caller.check()


def _applies(registry: RegistryClient) -> bool:
    try:
        return bool(registry.apply(RIVER, create_topic=True))
    except HeadraceClientError:
        return False
