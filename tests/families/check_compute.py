"""What is compiled for training learns as what is not; and the benchmark of a GPU, on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from headrace_data.spec import Train
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.loop import Training
from headrace_learning.training.objectives import Classification
from headrace_learning.training.randomness import make_deterministic, seed_weights
from headrace_learning.training.rows import Rows
from torch import nn

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(900)


class Nothing:
    """Keeps no checkpoint and tells nobody."""

    def newest(self, _subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, _checkpoint: Checkpoint) -> None:
        pass

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        pass


def learned(compute: Mapping[str, Any]) -> tuple[float, nn.Module]:
    make_deterministic()
    inputs = torch.randn(150, 6, generator=torch.Generator().manual_seed(1))
    rows = Rows(inputs, (inputs[:, 0] > inputs[:, 1]).long())
    train = {"network": {"kind": "python", "factory": "a.b:c"}, "epochs": 3, "batch_size": 64, "compute": compute}
    seed_weights(0)
    block = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 6), nn.Tanh())
    network = nn.Sequential(block, nn.Linear(6, 2))
    nothing = Nothing()
    settings = Train.model_validate(train)
    outcome = Training(network, settings, Classification(), rows, rows, "s", nothing, nothing).run()
    return outcome.best_loss, network


@pytest.mark.parametrize("recompute", [False, True])
def test_what_is_compiled_learns_the_same(recompute: bool) -> None:
    plain, _ = learned({})
    compiled, network = learned({"compile": True, "recompute": recompute})
    again, _ = learned({"compile": True, "recompute": recompute})
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert again == compiled
    assert type(network) is nn.Sequential


def bench(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_of_a_gpu_says_that_there_is_none() -> None:
    (line,) = bench().splitlines()
    assert line.startswith("bench-gpu: no CUDA device that PyTorch can use")


def test_the_benchmark_of_a_gpu_trains_and_serves_in_each_precision(tmp_path: Path) -> None:
    results = tmp_path / "figures.json"
    told = bench("--device", "cpu", "--small", "--rows", "3000", "--results", str(results))
    found = json.loads(results.read_text())
    assert [each["name"] for each in found] == ["cpu, fp32", "cpu, fp32", "cpu, bf16", "cpu, fp16"]
    assert all(each["rows_per_s"] > 0 and each["served_ms"] > 0 for each in found)
    assert all(abs(each["accuracy"] - found[0]["accuracy"]) < 0.05 for each in found)
    assert f"{found[3]['accuracy']:.4f}" in told
