"""Inference on a port of its own, without Kafka and Redis: a small model and a tiny one of language, default limits.

Started as `python server.py FOLDER`. Prints its ports, of gRPC and of REST, writes its log to standard error, and runs
until standard input ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from headrace_inference.adapters.prediction_log import NoLog
from headrace_inference.core.releases import CachePolicy, Graph, Release
from headrace_inference.core.shelf import Shelf
from headrace_inference.settings import Settings
from headrace_inference.wiring import build_host, build_loader
from headrace_local.ports import find_free
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.process.service import settle
from headrace_runtime.telemetry.setup import configure
from opentelemetry.context import Context
from sound import WORDS

from benchmarks.serving.network import MODEL, network
from tests.tiny_language import tiny_gguf


def main(folder: Path) -> None:
    """Serve until standard input ends."""
    (rest_port,) = find_free(1)
    settings = Settings(
        listen_address="127.0.0.1:0",
        rest_address=f"127.0.0.1:{rest_port}",
        store_url=str(folder / "store"),
        work_dir=folder / "work",
        redis_url="",
        metrics_address="",
        drain_s=0.0,
        answer_threads=1,
        keys_and_values_bytes=16 * 1024 * 1024,
        max_connection_age_s=0.0,
    )
    configure("inference", settings, "siege")
    shelf = Shelf()
    host = build_host(settings, shelf, NoLog())
    loader = build_loader(settings, shelf, host)
    store = ObjectStore(settings.store_url)
    settle()
    host.start()
    loader.start()
    for model, content in ((MODEL, network()), (WORDS, tiny_gguf())):
        loader.announce(_release(model, store.put(content)), Context())
    loader.all_announced()
    if not loader.wait_ready(60):
        raise SystemExit("the model was not loaded")
    print(json.dumps([host.port, rest_port]), flush=True)
    sys.stdin.read()
    loader.stop()
    host.stop()


def _release(model: str, kept: Artifact) -> Release:
    graph = Graph(kept.uri, kept.digest, kept.size_bytes)
    return Release(model, "champion", 1, kept.digest, 1, "fp32", graph, kept.digest, "siege", CachePolicy.OFF)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
