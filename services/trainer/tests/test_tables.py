"""Runs on the penguins: a table with gaps and categories, once for their species and once for their mass."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline, parse_canonical
from headrace_data.windows import only_dataset
from headrace_learning.evaluation import evaluate, predict_numbers
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.objectives import Classification, Regression, balanced_weights
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, Trained, run
from headrace_trainer.core.version import version_manifest
from headrace_trainer.errors import WrongDataset

EXAMPLES = Path(__file__).parents[3] / "examples"


class Notebook:
    """Keeps progress in memory, and no checkpoints."""

    def __init__(self) -> None:
        self.steps: list[Mapping[str, float]] = []

    def newest(self, subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return not midway

    def save(self, checkpoint: Checkpoint) -> None:
        pass

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.steps.append(metrics)


def example(name: str) -> Pipeline:
    return load_pipeline((EXAMPLES / name / "pipeline.yaml").read_bytes())


def changed(pipeline: Pipeline, **train: object) -> Pipeline:
    document = json.loads(pipeline.canonical_json())
    document["train"] |= train
    return parse_canonical(json.dumps(document).encode())


def frozen(pipeline: Pipeline, store: ObjectStore) -> Manifest:
    lines = (EXAMPLES / "penguins" / "rows.jsonl").read_bytes().splitlines()
    checked = RecordChecker(pipeline.stream).check(lines, [0] * len(lines), range(len(lines)))
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    return only_dataset(
        writer.finish(
            Provenance(cluster_id="c", topic="penguins", topic_id="", sources=(), clean_ranges=(), rejected={})
        ),
        pipeline,
        store,
    )


def trained(pipeline: Pipeline, manifest: Manifest, store: ObjectStore) -> tuple[Trained, Notebook, Plan]:
    notebook, plan = Notebook(), Plan("train-1", pipeline, manifest)
    return run(plan, DatasetReader(manifest, store), notebook, notebook), notebook, plan


def test_species_are_told_from_rows_with_gaps(store: ObjectStore) -> None:
    pipeline = changed(example("penguins-species"), epochs=25)
    manifest = frozen(pipeline, store)

    outcome, notebook, plan = trained(pipeline, manifest, store)

    assert outcome.metrics["accuracy"] >= 0.95
    # Most birds are Adelies, also of those that are measured on.
    assert 0.35 <= outcome.metrics["baseline_accuracy/Adelie"] <= 0.55
    assert set(notebook.steps[0]) == {"train_loss", "validation_loss", "validation_accuracy"}
    described = json.loads(version_manifest(plan, outcome, store.put(b"w"), store.put(b"g")))
    assert described["task"] == "classification"
    assert {"name": "sex", "type": "string", "shape": [-1], "optional": True} in described["inputs"]
    assert {"name": "island", "type": "string", "shape": [-1]} in described["inputs"]


def test_each_part_of_the_birds_is_measured_in_memory_as_in_a_stream(store: ObjectStore) -> None:
    pipeline = changed(example("penguins-species"), epochs=3, slices=["island", "sex"])
    manifest = frozen(pipeline, store)
    beside = [pipeline.stream.field(name) for name in pipeline.train.slices]
    notebook, plan = Notebook(), Plan("train-1", pipeline, manifest)

    outcome = run(plan, DatasetReader(manifest, store, beside), notebook, notebook)

    columns = DatasetReader(manifest, store).columns("test")
    truth = columns["species"]
    for field, value in (("island", "Dream"), ("sex", "")):
        mine = columns[field] == value
        wanted = evaluate(outcome.graph, {name: each[mine] for name, each in columns.items()}, truth[mine])
        part = f"slice/{field}={value}"
        assert outcome.metrics[f"{part}/rows"] == mine.sum() > 0
        assert outcome.metrics[f"{part}/accuracy"] == wanted["accuracy"]
    parts = {name for name in outcome.metrics if "slice/" in name}
    assert sum(outcome.metrics[name] for name in parts if "/sex" in name and "/rows" in name) == len(truth)
    streamed = run(plan, DatasetReader(manifest, store, beside), notebook, notebook, Memory(rows_bytes=0))
    assert {name for name in streamed.metrics if "slice/" in name} == parts


@pytest.mark.parametrize(("name", "headline"), [("penguins-species", "accuracy"), ("penguins-mass", "r2")])
def test_a_network_is_shown_what_trees_score_on_the_same_rows(
    store: ObjectStore, name: str, headline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, manifest = changed(example(name), epochs=3), frozen(example(name), store)
    wanted = changed(alone, compareWith="trees")

    outcome, notebook, plan = trained(wanted, manifest, store)

    assert outcome.beside[f"trees_{headline}"] >= {"accuracy": 0.9, "r2": 0.7}[headline]
    assert len(notebook.steps) == 3
    other, _, _ = trained(alone, manifest, store)
    assert other.beside == {}
    assert (outcome.weights, outcome.graph, outcome.metrics) == (other.weights, other.graph, other.metrics)
    assert b"trees" not in version_manifest(plan, outcome, store.put(b"w"), store.put(b"g"))
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert trained(wanted, manifest, store)[0].beside == {}


@pytest.mark.parametrize(("name", "headline"), [("penguins-species", "accuracy"), ("penguins-mass", "r2")])
def test_trees_learn_tables_and_their_version_names_what_grew_them(
    store: ObjectStore, name: str, headline: str
) -> None:
    pipeline = changed(example(name), network={"kind": "trees"}, earlyStop={"patience": 20})
    manifest = frozen(pipeline, store)

    outcome, notebook, plan = trained(pipeline, manifest, store)

    assert outcome.metrics[headline] >= {"accuracy": 0.95, "r2": 0.75}[headline]
    assert len(notebook.steps) == outcome.fitted.outcome.epochs < 300
    assert outcome.weights.startswith(b"tree\nversion=")
    described = json.loads(version_manifest(plan, outcome, store.put(b"w"), store.put(b"g")))
    assert described["libraries"].keys() >= {"lightgbm", "torch"}
    again, _, _ = trained(pipeline, manifest, store)
    assert (again.weights, again.graph) == (outcome.weights, outcome.graph)


def test_a_feature_that_no_row_has_is_named_in_the_metrics(store: ObjectStore) -> None:
    fields = "    - {name: device.os, type: string, role: feature, nullable: true}\n"
    fields += "    - {name: rain, type: float32, role: feature, nullable: true}\n"
    transforms = "    device.os: {impute: {constant: none}, encode: onehot}\n    rain: {impute: {constant: 0}}\n"
    document = (EXAMPLES / "penguins-species" / "pipeline.yaml").read_text()
    document = document.replace("    - {name: species", f"{fields}    - {{name: species")
    document = document.replace("    sex: {", f"{transforms}    sex: {{")
    pipeline = changed(load_pipeline(document), epochs=1)

    outcome, _, _ = trained(pipeline, frozen(pipeline, store), store)

    missing = {name: value for name, value in outcome.metrics.items() if name.startswith("missing/")}
    assert missing == {"missing/device.os": 1.0, "missing/rain": 1.0}


@pytest.mark.parametrize("memory", [Memory(), Memory(rows_bytes=0, buffer_bytes=8_000, validation_bytes=0)])
def test_species_are_told_through_every_kind_of_transform(store: ObjectStore, memory: Memory) -> None:
    document = json.loads(example("penguins-species").canonical_json())
    document["prepare"]["transform"] = {
        "island": {"encode": {"kind": "hash", "inputs": 8}},
        "bill_length_mm": {"impute": "median", "scale": "winsorize"},
        "bill_depth_mm": {"impute": "median", "scale": "quantile"},
        "flipper_length_mm": {"impute": "mean", "encode": "buckets"},
        "body_mass_g": {"impute": "median", "scale": "log"},
        "sex": {"impute": {"constant": "unknown"}, "encode": {"kind": "onehot", "maxCategories": 1}},
    }
    document["train"] |= {"epochs": 25}
    pipeline = parse_canonical(json.dumps(document).encode())
    manifest = frozen(pipeline, store)
    notebook = Notebook()

    outcome = run(Plan("train-1", pipeline, manifest), DatasetReader(manifest, store), notebook, notebook, memory)

    assert manifest.transforms.width == 8 + 1 + 1 + 10 + 1 + 2
    assert outcome.metrics["accuracy"] >= 0.9


def test_mass_is_predicted_in_grams(store: ObjectStore) -> None:
    pipeline = changed(example("penguins-mass"), epochs=40)
    manifest = frozen(pipeline, store)

    outcome, notebook, plan = trained(pipeline, manifest, store)

    assert set(outcome.metrics) == {"rmse", "mae", "r2", "baseline_rmse", "baseline_mae", "baseline_r2"}
    assert outcome.metrics["baseline_rmse"] > 600
    assert outcome.metrics["rmse"] <= 420
    assert outcome.metrics["r2"] >= 0.7
    assert set(notebook.steps[0]) == {"train_loss", "validation_loss", "validation_rmse"}
    best = notebook.steps[outcome.fitted.outcome.best_epoch - 1]
    assert outcome.fitted.outcome.best_loss == best["validation_loss"]
    validation = DatasetReader(manifest, store).columns("validation")
    assert evaluate(outcome.graph, validation, validation["body_mass_g"])["rmse"] == pytest.approx(
        best["validation_rmse"], rel=1e-5
    )
    described = json.loads(version_manifest(plan, outcome, store.put(b"w"), store.put(b"g")))
    assert described["task"] == "regression"
    assert described["classes"] == []
    assert described["outputs"] == [{"name": "prediction", "type": "float32", "shape": [-1]}]


def test_a_whole_number_may_be_predicted_and_the_same_rows_classified(store: ObjectStore) -> None:
    document = (EXAMPLES / "penguins-mass" / "pipeline.yaml").read_text()
    pipeline = load_pipeline(document.replace("body_mass_g, type: float32", "body_mass_g, type: int64"))
    manifest = frozen(pipeline, store)

    outcome, _, _ = trained(changed(pipeline, epochs=1), manifest, store)

    test = DatasetReader(manifest, store).columns("test")
    assert test["body_mass_g"].dtype == np.int64
    assert predict_numbers(outcome.graph, test).shape == test["body_mass_g"].shape
    classified = changed(pipeline, task="classification")
    assert Plan("train-2", classified, manifest).classes == manifest.classes
    with pytest.raises(WrongDataset, match="expected classes of label 'body_mass_g', got none"):
        Plan("train-2", classified, replace_classes(manifest))


def replace_classes(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"classes": ()})


def test_balanced_classes_weigh_alike() -> None:
    targets = torch.tensor([0, 0, 0, 1, 0, 1])
    weights = balanced_weights(torch.bincount(targets, minlength=3))
    outputs = torch.tensor([[2.0, 1.0, 0.0]]).repeat(6, 1)

    assert weights.tolist() == pytest.approx([0.5, 1.0, 2.0])
    assert float(weights[targets].sum()) == 4.0
    balanced, plain = Classification(weights), Classification()
    by_hand = torch.log_softmax(outputs[0], dim=0)
    assert float(balanced.loss(outputs, targets)) == pytest.approx(-float(by_hand[0] + by_hand[1]) / 2)
    assert float(plain.loss(outputs, targets)) == pytest.approx(-float(4 * by_hand[0] + 2 * by_hand[1]) / 6)
    assert replace(balanced, weights=None) == plain
    assert balanced.measure(outputs, targets) == {"accuracy": pytest.approx(4 / 6)}


def test_errors_of_a_regression_are_in_the_labels_unit() -> None:
    outputs, targets = torch.tensor([[1.0], [0.0]]), torch.tensor([0.0, 1.0])

    assert float(Regression(250.0).loss(outputs, targets)) == 1.0
    regression = Regression(250.0)
    assert regression.told(regression.measure(outputs, targets)) == {"rmse": 250.0}
