"""A private run, as the trainer's child makes it: what its version says, and what a search may spend."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest
from headrace_data.manifest import Manifest
from headrace_data.spec import MlpNetwork, Pipeline, Privacy, Tune
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.runs.child import WorkRefused
from headrace_runtime.runs.folder import output_prefix
from headrace_trainer.child import work

pytestmark = pytest.mark.slow


class Telling:
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[dict[str, float]] = []

    def progress(self, _step: int, _steps: int, metrics: Mapping[str, float], _eta_s: float) -> None:
        self.told.append(dict(metrics))


@pytest.fixture
def run(digits: Pipeline, store: ObjectStore, freeze: Callable[[Pipeline], Manifest]) -> Callable[..., dict[str, Any]]:
    def made(run_id: str, told: Telling | None = None, **said: Any) -> dict[str, Any]:
        changes = {
            "network": MlpNetwork(kind="mlp", hidden=(8,)),
            "epochs": 1,
            "early_stop": None,
            "privacy": Privacy(epsilon=4.0, delta=1e-4, fits="exact"),
        }
        pipeline = digits.model_copy(update={"train": digits.train.model_copy(update=changes | said)})
        assignment = {
            "run_id": run_id,
            "attempt": 1,
            "store_url": store.url,
            "output": output_prefix(run_id, 1),
            "spec": pipeline.canonical_json().decode(),
            "dataset": {"dataset_id": "sha256:d", "manifest": asdict(store.put(freeze(pipeline).to_json()))},
            "checkpoint_s": 3600,
            "packages": [],
        }
        return work(assignment, told or Telling())

    return made


def _manifest(store: ObjectStore, result: Mapping[str, Any]) -> Any:
    return json.loads(store.get(Artifact(**result["manifest"])))


def test_the_version_says_what_it_spent_and_that_it_does_not_repeat(
    run: Callable[..., dict[str, Any]], store: ObjectStore
) -> None:
    telling = Telling()
    result = run("one", telling)
    manifest = _manifest(store, result)
    privacy = manifest["privacy"]
    assert 3.9 < privacy["epsilon"] <= 4.0
    assert (privacy["delta"], privacy["unit"], privacy["trials"]) == (1e-4, "one row of the training split", 1)
    assert (privacy["exact_fits"], privacy["repeats"]) == (["pixels"], False)
    assert "opacus" in manifest["libraries"]
    assert result["privacy"] == {"epsilon": privacy["epsilon"], "delta": privacy["delta"]}
    assert all("train_loss" not in each for each in telling.told)


def test_the_trials_of_a_search_share_what_the_run_may_spend(
    run: Callable[..., dict[str, Any]], store: ObjectStore
) -> None:
    said = {"trials": 2, "pruner": "none", "space": {"network.hidden": [[4], [6]]}}
    result = run("search", tune=Tune.model_validate_json(json.dumps(said)))
    privacy = _manifest(store, result)["privacy"]
    assert privacy["trials"] == 2
    assert 3.9 < privacy["epsilon"] <= 4.0
    assert privacy["delta"] == pytest.approx(1e-4)


@pytest.mark.parametrize("trials", [0, 20])
def test_a_budget_that_promises_nothing_ends_the_run(run: Callable[..., dict[str, Any]], trials: int) -> None:
    """Of a search that of all trials: the share of one, here less than one over the rows, says nothing."""
    said = {"trials": trials, "space": {"network.hidden": [[4], [6]]}}
    tune = Tune.model_validate_json(json.dumps(said)) if trials else None
    with pytest.raises(WorkRefused, match=r"train\.privacy\.delta: expected less than one over the 1,"):
        run("open", privacy=Privacy(epsilon=4.0, delta=0.01, fits="exact"), tune=tune)
