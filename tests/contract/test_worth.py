"""What a hit in Redis costs is measured on a real one, and decides where the pipeline leaves it to the replica."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from headrace import open_inference as oip
from headrace_inference.adapters import worth_meter
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.adapters.prediction_log import NoLog
from headrace_inference.adapters.worth_meter import WorthMeter
from headrace_inference.core.cache_key import PREFIX
from headrace_inference.core.releases import CachePolicy, Graph, Release
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.settings import Settings
from headrace_inference.transport.converters import answer_prefix
from headrace_inference.wiring import build_host
from headrace_runtime.cache.redis_cache import RedisCache
from headrace_runtime.object_store import digest_of
from prometheus_client import REGISTRY

from tests.contract.test_inference import brightness

pytestmark = pytest.mark.contract

RUN_S = 0.01


class Slow:
    """A model that takes `run_s` seconds of CPU."""

    def __init__(self, graph: bytes) -> None:
        self._model = EngineModel(graph, max_rows=64)
        self.signature, self.sample, self.tokens = self._model.signature, self._model.sample, self._model.tokens
        self.run_s = RUN_S

    def run(self, arrays: Mapping[str, Any], outputs: Sequence[str]) -> Any:
        end_s = time.thread_time() + self.run_s
        while time.thread_time() < end_s:
            pass
        return self._model.run(arrays, outputs)


def version(model: Any, name: str, graph: bytes, policy: CachePolicy = CachePolicy.AUTO) -> LoadedVersion:
    digest = digest_of(graph)
    release = Release(name, "champion", 1, digest, 1, "fp32", Graph("memory://g", digest, len(graph)), "d", "r", policy)
    return LoadedVersion(release, model, Speed(RUN_S, 0.0), answer_prefix(release))


def test_a_hit_is_measured_beside_the_model_and_both_again(
    broker: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    graph = brightness(1.0)
    slow, quick, told = Slow(graph), EngineModel(graph, max_rows=64), CachePolicy.REDIS
    shelf = Shelf()
    for each in (version(slow, "slow", graph), version(quick, "quick", graph), version(quick, "told", graph, told)):
        shelf.put(each)
    found = {name: versions.all[0] for name, versions in shelf.models.items()}

    async def story() -> None:
        async with HotPredictions(RedisCache(broker.redis_url, prefix=PREFIX, ttl_s=60, timeout_s=5.0)) as hot:
            meter = WorthMeter(shelf, hot)
            await meter.look()
            assert {name: each.cached for name, each in found.items()} == {"slow": True, "quick": False, "told": True}
            assert 0 < found["slow"].worth.hit_s < RUN_S < found["slow"].worth.model_s
            slow.run_s = 0.0
            await meter.look()
            assert found["slow"].cached, "what was just measured is not measured again"
            monkeypatch.setattr(worth_meter, "AGAIN_S", 0.0)
            await meter.look()
            assert not found["slow"].cached

    asyncio.run(story())
    lines = [record.getMessage() for record in caplog.records if "hot predictions" in record.getMessage()]
    assert [line.split(": hot predictions ")[1].split(":")[0] for line in lines] == [
        "are kept in Redis",
        "are not kept",
        "are not kept",
    ]


def test_without_an_answer_of_the_cache_what_was_decided_stays() -> None:
    graph = brightness(1.0)
    shelf = Shelf()
    shelf.put(version(EngineModel(graph, max_rows=64), "quick", graph))

    async def story() -> None:
        for cache in (None, RedisCache("redis://127.0.0.1:1/0", prefix=PREFIX, ttl_s=60)):
            async with HotPredictions(cache) as hot:
                await WorthMeter(shelf, hot).look()

    asyncio.run(story())
    worth = shelf.models["quick"].all[0].worth
    assert worth.pays
    assert not worth.measured


def test_hot_answers_do_not_go_to_redis_each_time(broker: Any, tmp_path: Path) -> None:
    graph, model = brightness(1.0), "hot"
    shelf = Shelf()
    shelf.put(version(EngineModel(graph, max_rows=64), model, graph, CachePolicy.REDIS))
    settings = Settings(
        listen_address="127.0.0.1:0", redis_url=broker.redis_url, redis_timeout_ms=5000, work_dir=tmp_path, drain_s=0.0
    )
    host = build_host(settings, shelf, NoLog())
    host.start()
    try:
        pixels = np.random.default_rng().random((1, 8, 8), np.float32)
        request = oip.ModelInferRequest(model_name=model)
        request.inputs.add(name="pixels", datatype="FP32", shape=pixels.shape)
        request.raw_input_contents.append(pixels.tobytes())
        with grpc.insecure_channel(f"127.0.0.1:{host.port}") as channel:
            call: Any = channel.unary_unary(f"/{oip.SERVICE}/ModelInfer")
            sent = request.SerializeToString()
            answers = [oip.ModelInferResponse.FromString(call(sent, timeout=30))]
            # Until the first has been written to Redis, and two calls come within what is kept: a host may be busy.
            while not REGISTRY.get_sample_value("headrace_inference_shared_total", {"model": model, "how": "recent"}):
                answers.append(oip.ModelInferResponse.FromString(call(sent, timeout=30)))
    finally:
        host.stop()
    assert answers[-1].parameters["cached"].bool_param
    assert len({bytes(each.raw_output_contents[0]) for each in answers}) == 1
    assert len({each.parameters["prediction_id"].string_param for each in answers}) == len(answers)
