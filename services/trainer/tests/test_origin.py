"""Whole runs that begin from another version."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest
import safetensors.torch
import torch
from headrace_data.manifest import Manifest
from headrace_data.spec import MlpNetwork, Pipeline, TreesModel
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.runs.child import WorkRefused
from headrace_runtime.runs.folder import output_prefix
from headrace_trainer.child import work

pytestmark = pytest.mark.slow


class Losses:
    def __init__(self) -> None:
        self.seen: list[float] = []

    def progress(self, _step: int, _steps: int, metrics: Mapping[str, float], _eta_s: float) -> None:
        self.seen.append(metrics["validation_loss"])


Train = Callable[..., tuple[dict[str, Any], list[float]]]


@pytest.fixture
def train(store: ObjectStore, freeze: Callable[[Pipeline], Manifest], digits: Pipeline) -> Train:
    """Trains the digits for two epochs, from the version of another result where one is given."""

    def run(run_id: str, begun: Mapping[str, Any] | None = None, **said: Any) -> tuple[dict[str, Any], list[float]]:
        changed = digits.train.model_copy(update={"network": MlpNetwork(kind="mlp", hidden=(16,)), "epochs": 2} | said)
        pipeline = digits.model_copy(update={"train": changed})
        dataset = store.put(freeze(pipeline).to_json())
        assignment: dict[str, Any] = {
            "run_id": run_id,
            "attempt": 1,
            "store_url": store.url,
            "output": output_prefix(run_id, 1),
            "spec": pipeline.canonical_json().decode(),
            "dataset": {"dataset_id": "sha256:d", "manifest": asdict(dataset)},
            "checkpoint_s": 0,
            "packages": [],
        }
        if begun is not None:
            held = {"version_id": begun["version_id"], "weights": begun["weights"], "dataset": asdict(dataset)}
            assignment["origin"] = held
        losses = Losses()
        return work(assignment, losses), losses.seen

    return run


def _manifest(store: ObjectStore, result: Mapping[str, Any]) -> Any:
    return json.loads(store.get(Artifact(**result["manifest"])))


def _weights(store: ObjectStore, result: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(store.get(Artifact(**result["weights"])))


def test_a_run_begins_where_another_ended_and_its_version_says_so(store: ObjectStore, train: Train) -> None:
    train("named", origin="digits/champion")  # its own, by its pipeline's name
    first, losses = train("first", origin="champion")
    assert _manifest(store, first)["from"] == {"asked": "champion"}
    second, later = train("second", first, origin="champion")
    assert later[0] < losses[-1]
    assert _manifest(store, second)["from"] == {
        "asked": "champion",
        "version_id": first["version_id"],
        "weights": first["weights"]["digest"],
        "layers": {"taken": ["0", "3"], "partly": [], "seeded": []},
    }
    frozen, _ = train("frozen", first, origin="champion", freeze=("0",))
    held, before = _weights(store, frozen), _weights(store, first)
    assert torch.equal(held["network.0.weight"], before["network.0.weight"])
    assert not torch.equal(held["network.3.weight"], before["network.3.weight"])


def test_a_checkpoint_of_a_run_from_another_version_is_left_alone(store: ObjectStore, train: Train) -> None:
    first, _ = train("first", origin="champion")
    second, _ = train("second", first, origin="champion")
    # The same run id, planned from another version: its checkpoints are there, and of another subject.
    straight, _ = train("third", second, origin="champion")
    again, losses = train("second", second, origin="champion")
    assert len(losses) == 2
    assert again["weights"] == straight["weights"] != second["weights"]


@pytest.mark.parametrize(
    ("said", "begins", "expected"),
    [
        ({"origin": "3"}, False, "train.from: expected version 3, which the registry did not have"),
        ({"origin": "letters/champion"}, False, "expected a champion of pipeline 'letters', which had none"),
        ({"network": TreesModel(kind="trees", rounds=2), "origin": "1"}, True, "expected a network, got trees"),
        ({"network": MlpNetwork(kind="mlp", hidden=(9, 9)), "origin": "1"}, True, "expected a version with a layer"),
    ],
)
def test_a_run_that_cannot_begin_is_refused(train: Train, said: dict[str, Any], begins: bool, expected: str) -> None:
    first, _ = train("first")
    with pytest.raises(WorkRefused, match=expected):
        train("refused", first if begins else None, **said)


def test_weights_of_trees_are_refused(store: ObjectStore, train: Train) -> None:
    first, _ = train("first")
    trees = first | {"weights": asdict(store.put(b"tree\nversion=v4\n"))}
    with pytest.raises(WorkRefused, match=r"train\.from: expected the weights of a network"):
        train("refused", trees, origin="champion")
