"""Inference on a port of its own, without Kafka and Redis: one small model, default limits.

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
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.process.service import settle
from headrace_runtime.telemetry.setup import configure
from opentelemetry.context import Context

from benchmarks.serving.network import MODEL, network


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
        max_connection_age_s=0.0,
    )
    configure("inference", settings, "siege")
    shelf = Shelf()
    host = build_host(settings, shelf, NoLog())
    loader = build_loader(settings, shelf, host)
    artifact = ObjectStore(settings.store_url).put(network())
    graph = Graph(artifact.uri, artifact.digest, artifact.size_bytes)
    release = Release(
        MODEL, "champion", 1, artifact.digest, 1, "fp32", graph, artifact.digest, "siege", CachePolicy.OFF
    )
    settle()
    host.start()
    loader.start()
    loader.announce(release, Context())
    loader.all_announced()
    if not loader.wait_ready(60):
        raise SystemExit("the model was not loaded")
    print(json.dumps([host.port, rest_port]), flush=True)
    sys.stdin.read()
    loader.stop()
    host.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
