"""Trains the same network on the CPU and on a GPU in each precision, and serves what came of each; says so without one.

python -m benchmarks.gpu [--device cuda] [--rows 200000] [--results FILE]

Each version takes the product's whole path: rows read from their parts, transforms, training, the graph, its measures.
It is served as inference serves it, by ONNX Runtime on the CPU.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_data.spec import Compute
from headrace_engines.beside import Graph
from headrace_engines.onnx_model import OnnxModel
from headrace_learning.training.compute import CPU, fault_of_gpu, machine_of, threads_of
from headrace_learning.training.randomness import make_deterministic
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.process.cores import available_cores
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, run

from benchmarks import figures
from benchmarks.training.streamed import Clock, frozen, pipeline

NETWORK = (2048, 1024, 4096)
"""Two hidden layers and the rows of a batch: wide enough for a GPU to have something to do."""
SMALL = (64, 32, 256)
_SERVED_ROWS = 32
_SERVED_S = 2.0


@dataclass(frozen=True, slots=True)
class Found:
    """What one training and its version came to."""

    name: str
    device: str
    rows_per_s: float
    """Rows that it learned from by the second, from the first epoch's end to the last one's."""
    run_s: float
    """From the dataset to the measured graph, by the clock."""
    device_mb: float
    """The most memory of the GPU that it ever held; 0 on the CPU."""
    accuracy: float
    """Of the served graph, on the test split."""
    served_ms: float
    """What a call of some rows takes where it is served, on the CPU."""


def measured(manifest: Manifest, store: ObjectStore, network: tuple[int, int, int], compute: Compute) -> Found:
    """Train by a section `compute`, and serve the version."""
    device, clock = machine_of(compute).device, Clock()
    if device != CPU:
        torch.cuda.reset_peak_memory_stats(device)
    plan = Plan("run", pipeline(network, compute), manifest)
    began = time.perf_counter()
    trained = run(plan, DatasetReader(manifest, store), clock, clock, Memory())
    took_s = time.perf_counter() - began
    learned = manifest.splits["train"].rows * (len(clock.ends) - 1)
    return Found(
        name=f"{device.type}, {compute.precision}",
        device="the CPU" if device == CPU else torch.cuda.get_device_name(device),
        rows_per_s=learned / (clock.ends[-1][0] - clock.ends[0][0]),
        run_s=took_s,
        device_mb=0.0 if device == CPU else torch.cuda.max_memory_allocated(device) / 1e6,
        accuracy=trained.metrics["accuracy"],
        served_ms=_served_ms(trained.graph),
    )


def _served_ms(graph: Graph) -> float:
    model = OnnxModel(graph)
    rows, outputs = model.sample(_SERVED_ROWS), [each.name for each in model.outputs]
    model.run(rows, outputs)
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < _SERVED_S:
        model.run(rows, outputs)
        calls += 1
    return 1e3 * (time.perf_counter() - began) / calls


def table(network: tuple[int, int, int], rows: int, found: list[Found]) -> str:
    """Return a Markdown table, the first row the one that others are compared with."""
    lines = [
        [
            f"{one.name} ({one.device})",
            f"{one.rows_per_s:,.0f}",
            f"{one.rows_per_s / found[0].rows_per_s:.1f}",
            f"{one.run_s:.1f}",
            f"{one.device_mb:,.0f}",
            f"{one.accuracy:.4f}",
            f"{one.served_ms:.3f}",
        ]
        for one in found
    ]
    head = [f"{network[0]}-{network[1]} on {rows:,} rows, batch {network[2]}", "rows/s", "of the first", "run, s"]
    return figures.table([*head, "GPU, MB", "accuracy", f"served, ms for {_SERVED_ROWS}"], lines)


def main() -> None:
    """Measure, or say that there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure training on a GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the benchmark itself")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the dataset (default 200,000)")
    parser.add_argument("--small", action="store_true", help="a small network, to try the benchmark itself")
    parser.add_argument("--results", type=Path, help="keep the figures in this file, as JSON")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and (fault := fault_of_gpu()):
        print(f"bench-gpu: no CUDA device that PyTorch can use ({fault}); nothing was measured")
        return
    print(figures.machine(), flush=True)
    network = SMALL if arguments.small else NETWORK
    asked = [Compute(device="cpu", threads="auto")]
    asked += [Compute(device=arguments.device, precision=each) for each in ("fp32", "bf16", "fp16")]
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        store, found = ObjectStore(folder), []
        manifest = frozen(store, arguments.rows)
        for compute in asked:
            make_deterministic(threads_of(compute, available_cores()))
            found.append(measured(manifest, store, network, compute))
    print(f"\n{table(network, manifest.splits['train'].rows, found)}")
    if arguments.results:
        arguments.results.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
