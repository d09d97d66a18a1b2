"""The whole way on real data, in a platform of its own: first light, then a stream that changes.

Run by `make demo`. Starts the embedded platform on free ports in a temporary folder, stops it at the end, and exits
with 0 only when every stage did what it should. `--svg FILE` keeps the live screen as an image.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import drift
import numpy as np
from headrace_client import InferenceClient, RegistryClient
from headrace_client.cli import tables
from headrace_client.stages import Mark
from headrace_client.views import dataset_view, release_view, short_id, version_view
from headrace_client.waiting import Progress, wait_for
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_data.spec import load_pipeline
from headrace_local.launcher import Platform
from headrace_runtime.object_store import ObjectStore
from rich.console import Console

HERE = Path(__file__).resolve().parent
PIPELINE = "digits"
LEAST_ACCURACY = 0.96

console = Console(highlight=False, soft_wrap=True)


class DemoFailed(Exception):
    """A stage did not do what it should."""


@contextmanager
def stage(title: str) -> Iterator[None]:
    """Print a stage's title, and how long it took."""
    console.print(f"\n[bold cyan]{title}[/]")
    start = time.monotonic()
    yield
    console.print(f"[dim]{time.monotonic() - start:.1f} s[/]")


def produce(platform: Platform) -> None:
    """Send the digits by a producer that knows nothing of Headrace."""
    command = [sys.executable, str(HERE / "produce.py"), "--bootstrap-servers", platform.bootstrap_servers]
    console.print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def follow(registry: RegistryClient) -> None:
    """Print each stage's news until the model is released."""
    said: dict[str, str] = {}

    def say(progress: Progress) -> None:
        for item in progress.stages:
            if item.mark is not Mark.WAITING and said.get(item.name) != item.text:
                said[item.name] = item.text
                console.print(f"  [green]{item.name:<12}[/] {item.text}")

    wait_for(registry, PIPELINE, timeout_s=150.0, on_progress=say)


def show_results(registry: RegistryClient) -> None:
    """Print the dataset with its ranges, the version with its variants and gates, and the release."""
    dataset = dataset_view(registry.datasets(PIPELINE)[-1])
    console.print(f"dataset {dataset['dataset_id']}")
    for source in dataset["sources"]:
        console.print(f"  {PIPELINE}:{source['partition']} offsets {source['start']} to {source['end'] - 1}")
    console.print(f"  rows {dataset['rows']}, rejected {dataset['rejected']}")
    version = version_view(registry.versions(PIPELINE)[-1])
    console.print(f"test accuracy {version['metrics']['accuracy']:.4f} (at least {LEAST_ACCURACY} is expected)")
    if version["metrics"]["accuracy"] < LEAST_ACCURACY:
        raise DemoFailed(f"test accuracy: expected at least {LEAST_ACCURACY}, got {version['metrics']['accuracy']:.4f}")
    for part in [*tables.variants(version), *tables.releases([release_view(registry.releases(PIPELINE)[-1])])]:
        console.print(part)


def read_test_rows(platform: Platform, registry: RegistryClient) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels and the digits of the test split, from the frozen dataset."""
    store = ObjectStore(platform.connections.store_url)
    manifest = Manifest.from_json(store.get(registry.datasets(PIPELINE)[-1].frozen.manifest))
    columns = DatasetReader(manifest, store).columns("test")
    return columns["pixels"], columns["digit"]


def predict(client: InferenceClient, pixels: np.ndarray, digits: np.ndarray, *, expect_cached: bool) -> None:
    """Call the model once for each row and print accuracy, cache hits and latency."""
    right = cached = 0
    latencies = []
    for image, digit in zip(pixels, digits, strict=True):
        start = time.perf_counter()
        result = client.infer(PIPELINE, {"pixels": image[np.newaxis]})
        latencies.append((time.perf_counter() - start) * 1000)
        right += int(result.outputs["label"][0] == digit)
        cached += result.cached
    accuracy = right / len(digits)
    console.print(
        f"{len(digits)} calls: accuracy {accuracy:.4f}, {cached} answered from Valkey, "
        f"median {np.median(latencies):.2f} ms, p99 {np.percentile(latencies, 99):.2f} ms"
    )
    if accuracy < LEAST_ACCURACY:
        raise DemoFailed(f"served accuracy: expected at least {LEAST_ACCURACY}, got {accuracy:.4f}")
    if expect_cached and cached < len(digits):
        raise DemoFailed(f"answers from Valkey: expected all {len(digits)}, got {cached}")


def tell_story(platform: Platform, client: InferenceClient, image: np.ndarray) -> None:
    """Print where one prediction comes from, by the commands that a user has."""
    prediction = client.infer(PIPELINE, {"pixels": image[np.newaxis]}).parameters["prediction_id"]
    headrace = Path(sys.executable).parent / "headrace"
    environment = (
        os.environ | platform.environment | {"COLUMNS": "110", "FORCE_COLOR": "1" if console.is_terminal else ""}
    )
    for command in ("trace", "lineage"):
        console.print(f"[bold]$ headrace {command} {prediction}[/]")
        subprocess.run([str(headrace), command, str(prediction)], check=True, env=environment)


def run(home: Path, svg: Path | None) -> None:
    """Tell the story."""
    with stage("Starting Kafka, Valkey and six services"):
        platform = Platform.on_free_ports(home)
        platform.start(lambda line: console.print(f"  {line}"))
    try:
        with (
            RegistryClient(platform.addresses["registry"]) as registry,
            InferenceClient(platform.addresses["inference"]) as client,
        ):
            with stage("Applying examples/digits/pipeline.yaml"):
                applied = registry.apply((HERE / "pipeline.yaml").read_bytes(), create_topic=True).applied
                console.print(f"pipeline {applied.pipeline}, spec {short_id(applied.spec.digest)}")
            with stage("A plain kafka-python producer sends the digits"):
                produce(platform)
            with stage("From records to a release"):
                follow(registry)
                show_results(registry)
            pixels, digits = read_test_rows(platform, registry)
            with stage("Calling the model over gRPC with the test rows"):
                predict(client, pixels, digits, expect_cached=False)
            with stage("The same calls again"):
                predict(client, pixels, digits, expect_cached=True)
            with stage("The stream changes, and nobody stops calling"):
                pipeline = load_pipeline((HERE / "pipeline.yaml").read_bytes())
                drift.run(platform, registry, pipeline, console, svg)
            with stage("Where one prediction comes from"):
                tell_story(platform, client, pixels[0])
    finally:
        with stage("Stopping what was started"):
            platform.stop()


def main() -> int:
    """Run the demo in a temporary folder and return the exit code."""
    parser = argparse.ArgumentParser(description="Headrace on real data, from records to predictions and back.")
    parser.add_argument("--svg", type=Path, help="keep the live screen as an SVG image")
    parser.add_argument("--home", type=Path, help="keep the platform's state and logs in this folder")
    arguments = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headrace-demo-") as folder:
        try:
            run(arguments.home or Path(folder), arguments.svg)
        except Exception as error:
            console.print(f"\n[bold red]the demo failed:[/] {error}")
            return 1
    console.print(
        f"\n[bold]1,797 digits from a Kafka topic to gRPC predictions, twice, with a swap under load, in "
        f"{time.monotonic() - start:.0f} s[/]"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
