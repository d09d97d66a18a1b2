"""A pod does the assignment that its worker names, and no other."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from headrace_data.manifest import Manifest
from headrace_data.spec import MlpNetwork, Pipeline
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import DONE, REFUSED
from headrace_runtime.runs.folder import ASSIGNMENT, RunFolder, output_prefix
from headrace_runtime.runs.relay import Ended, Hearing
from headrace_trainer.pod import lead

OUTPUT = output_prefix("podded", 1)


@pytest.fixture
def environment(store: ObjectStore) -> dict[str, str]:
    """What the only pod of a run is told of an assignment in the store."""
    return os.environ | {
        "HEADRACE_STORE_URL": store.url,
        "HEADRACE_ASSIGNMENT": f"{OUTPUT}{ASSIGNMENT}",
        "HEADRACE_MEETING": "127.0.0.1:29500",
        "JOB_COMPLETION_INDEX": "0",
    }


def pod(environment: dict[str, str], data: bytes) -> subprocess.Popen[str]:
    digest = {"HEADRACE_ASSIGNMENT_DIGEST": hashlib.sha256(data).hexdigest()}
    command = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-m", "headrace_trainer.pod"]
    return subprocess.Popen(command, env=environment | digest, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_only_pod_of_a_run_trains_and_says_so(
    store: ObjectStore, digits: Pipeline, freeze: Callable[[Pipeline], Manifest], environment: dict[str, str]
) -> None:
    changes = {"network": MlpNetwork(kind="mlp", hidden=(8,)), "epochs": 2, "augment": None}
    pipeline = digits.model_copy(update={"train": digits.train.model_copy(update=changes)})
    dataset = freeze(pipeline)
    assignment: dict[str, Any] = {
        "run_id": "podded",
        "attempt": 1,
        "output": OUTPUT,
        "store_url": store.url,
        "spec": pipeline.canonical_json().decode(),
        "dataset": {"dataset_id": dataset.dataset_id, "manifest": asdict(store.put(dataset.to_json()))},
        "checkpoint_s": 0,
        "packages": [],
        "group": {"pods": 1, "processes": 1},
        "pipeline": pipeline.name,
    }
    data = json.dumps(assignment).encode()
    store.write(f"{OUTPUT}{ASSIGNMENT}", data)
    with pod(environment, data) as process:
        assert process.wait(240) == DONE
    lines, ended = Hearing(store, OUTPUT).hear()
    assert [line.step for line in lines] == [1, 2]
    assert ended == Ended(DONE, "")
    result = RunFolder(store, "podded").result()
    assert result is not None
    assert (result["attempt"], result["epochs"]) == (1, 2)


def test_another_assignment_is_not_done(store: ObjectStore, environment: dict[str, str]) -> None:
    store.write(f"{OUTPUT}{ASSIGNMENT}", b"{}")
    with pod(environment, b"what the worker wrote") as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert f"{OUTPUT}{ASSIGNMENT}: expected SHA-256 {hashlib.sha256(b'what the worker wrote').hexdigest()}" in said
    assert Hearing(store, OUTPUT).hear() == ([], None)


def test_a_pod_says_everything_that_it_was_not_told(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}
    with pod(environment | {"HEADRACE_STORE_URL": str(tmp_path)}, b"") as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "HEADRACE_ASSIGNMENT: Field required" in said


def test_what_a_child_says_while_all_pods_are_ended_is_told(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_trainer.pod._LAST_WORD_S", 60.0)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    told = {"run_id": "podded", "attempt": 1, "output": OUTPUT, "store_url": store.url, "spec": "{}"}
    (file := tmp_path / ASSIGNMENT).write_text(json.dumps(told))
    ending = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    ending.start()
    try:
        code = lead(file, store, OUTPUT)
    finally:
        ending.join()
        signal.signal(signal.SIGTERM, before)
    _, ended = Hearing(store, OUTPUT).hear()
    assert ended is not None
    assert (ended.code, code) == (REFUSED, REFUSED)
    assert ended.reason


def test_a_pod_that_waits_for_a_name_ends_when_it_is_told(store: ObjectStore, environment: dict[str, str]) -> None:
    store.write(f"{OUTPUT}{ASSIGNMENT}", b"{}")
    with pod(environment | {"HEADRACE_MEETING": "nowhere.invalid:29500"}, b"{}") as process:
        assert process.stderr is not None
        assert any("is not known yet" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75
