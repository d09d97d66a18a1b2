"""A run in two processes: it goes on where one was, to the weights of one, and says what went wrong in any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from headrace_data.manifest import Manifest
from headrace_data.spec import Compute, MlpNetwork, Pipeline
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.process.cores import available_cores
from headrace_runtime.runs.child import DONE, Progress, parse_line
from headrace_runtime.runs.folder import RunFolder, output_prefix
from headrace_trainer.adapters.agent import _told
from headrace_trainer.child import alone
from torch.distributed.elastic.agent.server.api import RunResult, WorkerState
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(available_cores() < 2, reason="a process of a group has a core of its own"),
]


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


def start(assignment: dict[str, Any], attempt: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start a child as the worker does."""
    file = folder / f"attempt-{attempt}.json"
    told = {**assignment, "attempt": attempt, "output": output_prefix(assignment["run_id"], attempt)}
    file.write_text(json.dumps(told))
    strict = ["-W", "error", "-W", "ignore::ResourceWarning"]
    return subprocess.Popen(
        [sys.executable, *strict, "-m", "headrace_trainer.child", str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def weights(store: ObjectStore, result: dict[str, Any]) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(store.get(Artifact(**result["weights"])))


class Interrupted(Quiet):
    """Ends a run after its second epoch."""

    def progress(self, step: int, steps: int, metrics: Any, eta_s: float) -> None:
        if step == 2:
            raise KeyboardInterrupt


def test_a_group_goes_on_from_a_checkpoint_and_ends_with_the_weights_of_one_process(
    assignment: dict[str, Any], store: ObjectStore, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        alone({**assignment, "attempt": 1, "output": output_prefix("together", 1)}, Interrupted())
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


@pytest.mark.parametrize(
    ("codes", "said", "told"),
    [
        ((1, 1), "OSError: no space", "OSError: no space"),
        ((-15, 1), "OSError: no space", "OSError: no space"),  # the agent has ended the other
        ((1, -9), "RuntimeError: a connection is gone", "process 1 of 2 was killed by SIGKILL"),
        ((-15, -6), "Diverged", "process 1 of 2 was killed by SIGABRT, and the group said: Diverged"),
        ((-15, -9), "", "process 1 of 2 was killed by SIGKILL"),
        ((None, 3), "", "process 1 of 2 ended with code 3"),
        ((None, None), "", "none of 2 processes gave a result"),
    ],
)
def test_the_reason_is_that_of_the_process_that_met_the_fault(
    codes: tuple[int | None, ...], said: str, told: str
) -> None:
    failures = {
        rank: ProcessFailure(rank, 100 + rank, code, os.devnull) for rank, code in enumerate(codes) if code is not None
    }
    assert _told(RunResult(WorkerState.FAILED, failures=failures), 2, said) == told


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
