"""A run in two processes: the weights of one, and a killed process costs what came after its checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import safetensors.torch
import torch
from headrace_data.manifest import Manifest
from headrace_data.spec import Compute, MlpNetwork, Pipeline
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.process.cores import available_cores
from headrace_runtime.runs.child import DONE, FAILED, Failure, Progress, parse_line
from headrace_runtime.runs.folder import RunFolder, output_prefix
from headrace_runtime.telemetry.hold import CHILD_VARIABLE, POLL_S, Held
from headrace_trainer.child import alone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(available_cores() < 2, reason="a process of a group has a core of its own"),
]

LONGEST_S = 120.0


class Quiet:
    """Is told of progress."""

    def progress(self, step: int, steps: int, metrics: Any, eta_s: float) -> None:
        pass


@pytest.fixture
def assignment(store: ObjectStore, digits: Pipeline, freeze: Callable[[Pipeline], Manifest]) -> dict[str, Any]:
    """What asks for two processes: four epochs of a small network, a checkpoint after each."""
    changes = {
        "network": MlpNetwork(kind="mlp", hidden=(16,)),
        "epochs": 4,
        "compute": Compute(device="cpu", processes=2),
        "augment": None,
    }
    pipeline = digits.model_copy(update={"train": digits.train.model_copy(update=changes)})
    dataset = freeze(pipeline)
    return {
        "run_id": "together",
        "store_url": store.url,
        "spec": pipeline.canonical_json().decode(),
        "dataset": {"dataset_id": dataset.dataset_id, "manifest": asdict(store.put(dataset.to_json()))},
        "checkpoint_s": 0,
        "packages": [],
    }


def start(assignment: dict[str, Any], attempt: int, folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start a child as the worker does."""
    file = folder / f"attempt-{attempt}.json"
    told = {**assignment, "attempt": attempt, "output": output_prefix(assignment["run_id"], attempt)}
    file.write_text(json.dumps(told))
    strict = ["-W", "error", "-W", "ignore::ResourceWarning"]
    return subprocess.Popen(
        [sys.executable, *strict, "-m", "headrace_trainer.child", str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    )


def held(path: Path) -> int:
    """Wait until a process is held, and return its id."""
    ends_s = time.monotonic() + LONGEST_S
    while not path.exists():
        assert time.monotonic() < ends_s
        time.sleep(POLL_S)
    return Held.read(path).pid


def ranks(child: int) -> set[int]:
    """Return the processes of a child's group; libraries may ask the system something in others."""
    return {each.pid for each in psutil.Process(child).children() if "headrace_trainer.rank" in each.cmdline()}


def weights(store: ObjectStore, result: dict[str, Any]) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(store.get(Artifact(**result["weights"])))


def test_a_group_whose_process_is_killed_goes_on_and_ends_with_the_weights_of_one_process(
    assignment: dict[str, Any], store: ObjectStore, tmp_path: Path
) -> None:
    (holds := tmp_path / "holds").mkdir()
    (holds / "step-2").touch()
    with start(assignment, 1, tmp_path, **{CHILD_VARIABLE: str(holds)}) as child:
        assert child.stdout is not None
        leader = held(holds / "step-2.held")
        (other,) = ranks(child.pid) - {leader}
        os.kill(other, signal.SIGKILL)
        lines = [parse_line(line) for line in child.stdout]
        assert child.wait() == FAILED
    assert [line.step for line in lines if isinstance(line, Progress)] == [1, 2]
    assert isinstance(lines[-1], Failure)
    assert lines[-1].reason == "GroupFailed: process 1 of 2 was killed by SIGKILL"
    assert not psutil.pid_exists(leader)

    with start(assignment, 2, tmp_path) as child:
        assert child.stdout is not None
        lines = [parse_line(line) for line in child.stdout]
        assert child.wait() == DONE
    assert [line.step for line in lines if isinstance(line, Progress)] == [3, 4]
    result = RunFolder(store, "together").result()
    assert result is not None
    assert json.loads(store.get(Artifact(**result["manifest"])))["compute"]["processes"] == 2

    one = alone({**assignment, "run_id": "alone", "attempt": 1, "output": output_prefix("alone", 1)}, Quiet())
    expected, found = weights(store, one), weights(store, result)
    assert max(float((expected[name] - found[name]).abs().max()) for name in expected) < 1e-5
    assert result["metrics"]["accuracy"] == pytest.approx(one["metrics"]["accuracy"])


UNPICKLED = """
from headrace_trainer.rank import refuse_pickles
import pickle

numbers, named = pickle.dumps([1, 2.5]), pickle.dumps(print)
refuse_pickles()
print(pickle.loads(numbers))
pickle.loads(named)
"""


def test_a_process_of_a_group_unpickles_nothing_that_could_run() -> None:
    tried = subprocess.run([sys.executable, "-c", UNPICKLED], capture_output=True, text=True, check=False)
    assert tried.stdout.split("\n")[0] == "[1, 2.5]"
    assert "RuntimeError: expected tensors alone from other processes, got a pickle" in tried.stderr
