"""A network of somebody's own, as docs/extending.md shows it: trained, exported, measured and named in its version."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_data.spec import Pipeline, PythonNetwork, Tune
from headrace_learning.evaluation import evaluate
from headrace_learning.factories import SETTING
from headrace_learning.training.loop import Training
from headrace_runtime.errors import SettingsInvalid
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.runs.child import WorkRefused
from headrace_runtime.runs.folder import output_prefix
from headrace_runtime.settings import load_settings
from headrace_trainer.child import work
from headrace_trainer.settings import Settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "extending.md"
LEAST_ACCURACY = 0.9


class Nobody:
    """Is told how far a run is."""

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.told = (step, steps, dict(metrics), eta_s)


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The package of the recipe, on the path: its source."""
    found = re.search(
        r"^## Your own network in fifteen lines$.*?```python\n(.*?)```", DOCUMENT.read_text(), re.M | re.S
    )
    assert found is not None
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "nets.py").write_text(found[1])
    monkeypatch.syspath_prepend(tmp_path)
    yield found[1]
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


@pytest.fixture
def assign(
    digits: Pipeline, store: ObjectStore, freeze: Callable[[Pipeline], Manifest]
) -> Callable[..., dict[str, Any]]:
    """Makes an assignment of a pipeline with a network of somebody's own, as the worker does."""
    network = PythonNetwork(kind="python", factory="acme.nets:looking", arguments={"channels": 8})
    train = digits.train.model_copy(update={"network": network, "epochs": 8})
    pipeline = digits.model_copy(update={"train": train})
    dataset = freeze(pipeline)

    def build(run_id: str, *packages: str, attempt: int = 1, tune: Tune | None = None) -> dict[str, Any]:
        said = pipeline.model_copy(
            update={"train": train.model_copy(update={"tune": tune, "epochs": 3} if tune else {})}
        )
        return {
            "run_id": run_id,
            "attempt": attempt,
            "store_url": store.url,
            "output": output_prefix(run_id, attempt),
            "spec": said.canonical_json().decode(),
            "dataset": {"dataset_id": dataset.dataset_id, "manifest": asdict(store.put(dataset.to_json()))},
            "checkpoint_s": 0,
            "packages": list(packages),
        }

    return build


@pytest.mark.slow
def test_fifteen_lines_are_trained_exported_and_measured_as_any_network(
    assign: Callable[..., dict[str, Any]], store: ObjectStore, acme: str
) -> None:
    assert len(acme.splitlines()) <= 15
    assignment = assign("first", "acme")
    first, second = work(assignment, Nobody()), work(assign("second", "acme"), Nobody())
    assert first["metrics"]["accuracy"] > LEAST_ACCURACY
    assert all(first[name] == second[name] for name in ("graph", "weights", "metrics"))

    manifest = json.loads(store.get(Artifact(**first["manifest"])))
    assert manifest["sources"].keys() == {"acme"}
    assert "onnxscript" in manifest["libraries"]
    dataset = Manifest.from_json(store.get(Artifact(**assignment["dataset"]["manifest"])))
    columns = DatasetReader(dataset, store).columns("test")
    truth = columns.pop("digit")
    assert evaluate(store.get(Artifact(**first["graph"])), columns, truth)["accuracy"] == first["metrics"]["accuracy"]


class _Killed(BaseException):
    pass


class _Counting:
    """Counts the epochs that are trained, and ends the attempt after so many."""

    def __init__(self, most: int = 99) -> None:
        self.trained = 0
        self.most = most

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.trained += "trial" in metrics
        if self.trained > self.most:
            raise _Killed


@pytest.mark.slow
def test_a_search_for_its_settings_goes_on_and_trains_nothing_twice(
    assign: Callable[..., dict[str, Any]], acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert acme
    epochs: list[int] = []
    one_epoch = Training._train_one_epoch

    def counted(self: Training) -> float | None:
        epochs.append(1)
        return one_epoch(self)

    monkeypatch.setattr(Training, "_train_one_epoch", counted)
    tune = Tune(trials=3, pruner="none", space={"network.arguments.channels": (2, 6, 4)})
    straight = work(assign("straight", "acme", tune=tune), _Counting())
    assert len(epochs) == 9
    with pytest.raises(_Killed):
        work(assign("killed", "acme", tune=tune), _Counting(4))
    epochs.clear()
    result = work(assign("killed", "acme", attempt=2, tune=tune), _Counting())
    assert len(epochs) == 4, "the one that was told of and did not return is kept"
    assert all(result[name] == straight[name] for name in ("graph", "weights", "metrics", "trials"))


def test_a_package_that_is_not_in_the_setting_ends_the_run_before_it_is_imported(
    assign: Callable[..., dict[str, Any]], acme: str
) -> None:
    assert acme
    with pytest.raises(WorkRefused, match=f"acme.nets:looking: .*allows \\(none\\).*{SETTING}"):
        work(assign("forbidden"), Nobody())
    assert "acme.nets" not in sys.modules


def test_packages_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(Settings).packages == ()
    monkeypatch.setenv(SETTING, " acme.nets, timm ,")
    assert load_settings(Settings).packages == ("acme.nets", "timm")
    for wrong in ("acme/nets", "acme..nets", "acme nets", "*"):
        monkeypatch.setenv(SETTING, wrong)
        with pytest.raises(SettingsInvalid, match=f"{SETTING}: expected names of packages"):
            load_settings(Settings)
