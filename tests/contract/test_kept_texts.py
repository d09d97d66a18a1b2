"""Answers of a model of language in a real Redis: those that repeat, for whichever replica is asked next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from headrace import open_inference as oip
from headrace_engines.generator import Room
from headrace_inference.adapters.language_model import LanguageLimits, LanguageModel, load, local
from headrace_inference.adapters.prediction_log import NoLog
from headrace_inference.core.generation import parameters_of
from headrace_inference.core.releases import CachePolicy, Graph, Release
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.settings import Settings
from headrace_inference.transport.converters import answer_prefix
from headrace_inference.transport.pieces import request_of
from headrace_inference.wiring import build_host
from headrace_runtime.object_store import digest_of

pytestmark = pytest.mark.contract

MODEL = "kept-texts"


@pytest.fixture
def released(tmp_path: Path, tiny_gguf: Callable[..., bytes]) -> Iterator[LoadedVersion]:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_gguf(seed=91))
    limits = LanguageLimits(room=Room(cache_bytes=1024 * 1024, threads=1))
    model: LanguageModel = load(partial(local, path, limits), limits, 60.0, lambda: False)
    graph = Graph("memory://g", digest_of(path.read_bytes()), path.stat().st_size)
    release = Release(MODEL, "champion", 1, graph.digest, 1, "fp32", graph, "d", "r", CachePolicy.REDIS)
    language = model.language
    yield LoadedVersion(release, model, Speed(0.1, 0.01, is_steady=False), answer_prefix(release), language=language)
    language.retire()


@contextmanager
def replica(version: LoadedVersion, **settings: Any) -> Iterator[grpc.Channel]:
    shelf = Shelf()
    shelf.put(version)
    host = build_host(Settings(listen_address="127.0.0.1:0", drain_s=0.0, **settings), shelf, NoLog())
    host.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{host.port}") as channel:
            yield channel
    finally:
        host.stop()


def asked(channel: grpc.Channel, **sampling: Any) -> tuple[str, bool]:
    """Return an answer, and whether it is one that was kept."""
    call: Any = channel.unary_unary(
        f"/{oip.SERVICE}/ModelInfer", response_deserializer=oip.ModelInferResponse.FromString
    )
    answer = call(request_of(MODEL, "", "who turns the mill", parameters_of(**sampling), streamed=False), timeout=30)
    return answer.raw_output_contents[0][4:].decode(), answer.parameters["cached"].bool_param


def streamed(channel: grpc.Channel, **sampling: Any) -> tuple[str, int]:
    """Return an answer as it comes piece by piece, and the number of pieces."""
    call: Any = channel.stream_stream(
        f"/{oip.SERVICE}/ModelStreamInfer", response_deserializer=oip.ModelStreamInferResponse.FromString
    )
    request = request_of(MODEL, "", "who turns the mill", parameters_of(**sampling), streamed=True)
    texts = [each.infer_response.raw_output_contents[0][4:].decode() for each in call(iter([request]), timeout=30)]
    return "".join(texts), len(texts)


def test_what_repeats_is_kept_for_the_next_replica(broker: Any, tmp_path: Path, released: LoadedVersion) -> None:
    settings = {"redis_url": broker.redis_url, "redis_timeout_ms": 5000, "work_dir": tmp_path / "work"}
    with replica(released, **settings) as channel:
        text, is_kept = asked(channel, max_tokens=12)
        assert not is_kept
        while not asked(channel, max_tokens=12)[1]:
            """Until it has been written to Redis."""
        for _ in range(2):
            assert not asked(channel, max_tokens=12, temperature=1.0, seed=3)[1], "it may be drawn again"
    with replica(released, **settings, recent_bytes=0) as channel:
        assert asked(channel, max_tokens=12, seed=7) == (text, True)
        assert streamed(channel, max_tokens=12) == (text, 1)
        assert not asked(channel, max_tokens=11)[1]
