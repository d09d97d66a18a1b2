"""Searches: the same best settings whatever is killed, and the weights that a run by these settings has."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from headrace_data.manifest import Manifest
from headrace_data.spec import MlpNetwork, Optimizer, Pipeline, TreesModel, Tune, with_values
from headrace_learning.tuning import State, Trial, most_steps
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.runs.child import WorkRefused
from headrace_runtime.runs.folder import output_prefix
from headrace_trainer.adapters.trials import StoredTrials
from headrace_trainer.child import work

pytestmark = pytest.mark.slow

SPACE: Mapping[str, Any] = {
    "optimizer.learningRate": {"low": 0.0003, "high": 0.1, "log": True},
    "network.hidden": [[4], [16], [12, 8]],
    "network.dropout": {"low": 0, "high": 0.3},
    "batchSize": {"low": 16, "high": 128},
}


class Killed(BaseException):
    """The end of an attempt that nobody catches."""


class Telling:
    """Remembers what was told, and ends the attempt when it was told something for the nth time."""

    def __init__(self, most: int | None = None) -> None:
        self.told: list[tuple[int, int, dict[str, float]]] = []
        self.most = most

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], _eta_s: float) -> None:
        self.told.append((step, steps, dict(metrics)))
        if self.most is not None and len(self.told) > self.most:
            raise Killed


Assign = Callable[..., dict[str, Any]]


@pytest.fixture
def tuned(digits: Pipeline) -> Callable[..., Pipeline]:
    """The digits, with a search."""

    def build(trials: int = 8, space: Mapping[str, Any] = SPACE, pruner: str = "median", **said: Any) -> Pipeline:
        tune = Tune.model_validate_json(
            json.dumps({"trials": trials, "pruner": pruner, "space": dict(space)} | said.pop("tune", {}))
        )
        changes = {"network": MlpNetwork(kind="mlp", hidden=(8,)), "epochs": 3, "early_stop": None, "tune": tune} | said
        return digits.model_copy(update={"train": digits.train.model_copy(update=changes)})

    return build


@pytest.fixture
def assign(store: ObjectStore, freeze: Callable[[Pipeline], Manifest]) -> Assign:
    def build(pipeline: Pipeline, run_id: str, attempt: int = 1, checkpoint_s: float = 0) -> dict[str, Any]:
        dataset = store.put(freeze(pipeline).to_json())
        return {
            "run_id": run_id,
            "attempt": attempt,
            "store_url": store.url,
            "output": output_prefix(run_id, attempt),
            "spec": pipeline.canonical_json().decode(),
            "dataset": {"dataset_id": "sha256:d", "manifest": asdict(dataset)},
            "checkpoint_s": checkpoint_s,
            "packages": [],
        }

    return build


def _manifest(store: ObjectStore, result: Mapping[str, Any]) -> Any:
    return json.loads(store.get(Artifact(**result["manifest"])))


def test_the_version_is_that_of_a_run_by_the_settings_that_were_found(
    assign: Assign, store: ObjectStore, tuned: Callable[..., Pipeline]
) -> None:
    pipeline, telling = tuned(), Telling()
    result = work(assign(pipeline, "search"), telling)
    found = _manifest(store, result)["tuned"]
    assert [trial["number"] for trial in result["trials"]] == list(range(8))
    done = [trial for trial in result["trials"] if trial["state"] == "done"]
    (chosen,) = (trial for trial in result["trials"] if trial["chosen"])
    assert chosen["score"] == min(trial["score"] for trial in done)
    assert chosen["values"] == {path: json.dumps(value) for path, value in found["values"].items()}
    assert any(trial["state"] == "pruned" for trial in result["trials"])
    assert len({json.dumps(trial["values"]) for trial in found["trials"]}) == 8
    # Told: which trial, how far, and the best so far; in the end the best one's epochs, which are the curve.
    step, steps, metrics = telling.told[5]
    assert (step, steps, metrics["trial"], metrics["epoch"]) == (1, 8, 2.0, 3.0)
    assert metrics["best_validation_loss"] == result["trials"][0]["score"]
    curve = json.loads(store.read("runs/search/attempt-1/curve.json") or b"")
    assert [each["epoch"] for each in curve] == [1, 2, 3]
    assert min(each["validation_loss"] for each in curve) == chosen["score"]

    by_hand = pipeline.model_copy(update={"train": with_values(pipeline.train, found["values"])})
    straight = work(assign(by_hand, "straight"), Telling())
    assert (result["weights"], result["graph"]) == (straight["weights"], straight["graph"])


@pytest.mark.parametrize(
    ("pruner", "checkpoint_s", "kills"),
    [("median", 0, (0, 4, 7, 11)), ("hyperband", 3600, (2, 9)), ("none", 0.02, (1, 5))],
)
def test_a_search_that_is_killed_again_and_again_finds_the_same(
    assign: Assign,
    store: ObjectStore,
    tuned: Callable[..., Pipeline],
    pruner: str,
    checkpoint_s: float,
    kills: tuple[int, ...],
) -> None:
    pipeline = tuned(trials=7, pruner=pruner)
    straight = work(assign(pipeline, "straight", checkpoint_s=checkpoint_s), Telling())
    for attempt, most in enumerate(kills, start=1):
        with pytest.raises(Killed):
            work(assign(pipeline, "killed", attempt, checkpoint_s), Telling(most))
    telling = Telling()
    result = work(assign(pipeline, "killed", len(kills) + 1, checkpoint_s), telling)
    assert _manifest(store, straight) | {"run_id": "killed"} == _manifest(store, result)
    assert (result["weights"], result["trials"]) == (straight["weights"], straight["trials"])
    if checkpoint_s == 0:
        assert telling.told[0][0] > 0, "the trials of earlier attempts are not tried again"


def test_a_search_whose_process_is_killed_finds_the_same(
    assign: Assign, store: ObjectStore, tuned: Callable[..., Pipeline], tmp_path: Path
) -> None:
    pipeline = tuned(trials=3)
    straight = work(assign(pipeline, "straight"), Telling())
    file = tmp_path / "assignment.json"
    file.write_text(json.dumps(assign(pipeline, "killed")))
    command = [sys.executable, "-m", "headrace_trainer.child", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(5):
            assert child.stdout.readline()
        child.kill()
    telling = Telling()
    result = work(assign(pipeline, "killed", 2), telling)
    assert telling.told[0][0] >= 1, "what ended is not tried again"
    assert _manifest(store, straight) | {"run_id": "killed"} == _manifest(store, result)


def test_a_trial_that_was_to_end_early_ends_there_when_its_attempt_was_killed_before_it_said_so(
    assign: Assign, store: ObjectStore, tuned: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = tuned(trials=8)
    straight = work(assign(pipeline, "straight"), Telling())
    assert any(trial["state"] == "pruned" and trial["epochs"] < 3 for trial in straight["trials"])
    write = StoredTrials.write

    def dies(self: StoredTrials, subject: str, trial: Trial) -> None:
        if trial.state == State.PRUNED:
            raise Killed
        write(self, subject, trial)

    with monkeypatch.context() as patched:
        patched.setattr(StoredTrials, "write", dies)
        with pytest.raises(Killed):
            work(assign(pipeline, "killed"), Telling())
    result = work(assign(pipeline, "killed", 2), Telling())
    assert (result["trials"], result["weights"]) == (straight["trials"], straight["weights"])


def test_trees_are_searched_by_rounds(assign: Assign, store: ObjectStore, tuned: Callable[..., Pipeline]) -> None:
    space = {"network.leaves": {"low": 3, "high": 20}, "network.learningRate": {"low": 0.02, "high": 0.3, "log": True}}
    pipeline = tuned(trials=6, space=space, network=TreesModel(kind="trees", rounds=5))
    straight = work(assign(pipeline, "straight"), Telling())
    with pytest.raises(Killed):
        work(assign(pipeline, "killed"), Telling(12))
    result = work(assign(pipeline, "killed", 2), Telling())
    assert result["trials"] == straight["trials"]
    assert result["weights"] == straight["weights"]


def test_a_search_ends_in_order_when_its_processor_time_is_spent(
    assign: Assign, tuned: Callable[..., Pipeline]
) -> None:
    result = work(assign(tuned(trials=200, tune={"budget": "1ms"}), "short"), Telling())
    assert [trial["state"] for trial in result["trials"]] == ["done"]
    result = work(assign(tuned(trials=200, tune={"budget": "1s"}), "longer"), Telling())
    assert 1 <= len(result["trials"]) < 200
    assert {trial["state"] for trial in result["trials"]} <= {"done", "pruned", "stopped"}


def test_trials_that_fail_are_told_and_passed_over(assign: Assign, tuned: Callable[..., Pipeline]) -> None:
    sgd = Optimizer(kind="sgd", weight_decay=1.0)
    space = {"optimizer.learningRate": [10.0, 0.01]}
    result = work(assign(tuned(trials=6, space=space, optimizer=sgd, epochs=2), "some"), Telling())
    states = {(trial["values"]["optimizer.learningRate"], trial["state"]) for trial in result["trials"]}
    assert ("10.0", "failed") in states
    failed = next(trial for trial in result["trials"] if trial["state"] == "failed")
    assert "training diverged" in failed["reason"]
    hopeless = tuned(trials=2, space={"optimizer.learningRate": [9.5, 10.0]}, optimizer=sgd, epochs=2)
    with pytest.raises(WorkRefused, match=r"train\.tune: each of 2 trials failed; the last: training diverged"):
        work(assign(hopeless, "none"), Telling())


@pytest.mark.parametrize(
    ("space", "most"),
    [({}, 3), ({"epochs": [2, 9, 4]}, 9), ({"epochs": {"low": 2, "high": 27}}, 27)],
)
def test_hyperband_knows_how_long_the_longest_trial_is(
    tuned: Callable[..., Pipeline], space: dict[str, Any], most: int
) -> None:
    pipeline = tuned(space={**SPACE, **space}, pruner="hyperband")
    assert most_steps(pipeline.train) == most
    grown = tuned(space={"network.rounds": {"low": 10, "high": 40}}, network=TreesModel(kind="trees", rounds=5))
    assert most_steps(grown.train) == 40
    assert most_steps(tuned(network=TreesModel(kind="trees", rounds=5)).train) == 5
