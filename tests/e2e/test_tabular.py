"""Penguins with gaps and categories through all six services: once classified, once weighed, from one topic."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import pytest
import yaml
from headrace_client import InferenceClient, RegistryClient
from headrace_client.errors import Rejected
from headrace_client.tensors import arrays_from_rows
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_runtime.object_store import ObjectStore

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"
BROKEN = {"json": 1, "type": 1, "outOfRange": 1, "duplicates": 1}
LEAST_ACCURACY = 0.9
MOST_GRAMS = 420.0
BIRD = {
    "species": "Chinstrap",
    "island": "Dream",
    "bill_length_mm": 48.1,
    "bill_depth_mm": 18.0,
    "flipper_length_mm": 199,
    "body_mass_g": 3325,
    "sex": None,
}

Waited = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def waited(platform: Platform, headrace: Callable[..., Any]) -> Waited:
    """What `headrace wait --json` said of both pipelines, which learn from one topic at the same time."""
    for name in ("penguins-species", "penguins-mass"):
        applied = headrace("apply", str(EXAMPLES / name / "pipeline.yaml"), "--create-topic")
        assert applied.returncode == 0, applied.stderr
    script = EXAMPLES / "penguins" / "produce.py"
    command = [sys.executable, str(script), "--bootstrap-servers", platform.bootstrap_servers]
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    found = {}
    for name in ("penguins-species", "penguins-mass"):
        result = headrace("wait", name, "--timeout", "150s", "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        found[name] = json.loads(result.stdout)
    return found


def frozen(platform: Platform, registry: RegistryClient, name: str) -> DatasetReader:
    store = ObjectStore(platform.connections.store_url)
    return DatasetReader(Manifest.from_json(store.get(registry.datasets(name)[-1].frozen.manifest)), store)


def test_rows_with_gaps_are_kept_and_rows_without_a_label_are_not(
    platform: Platform, registry: RegistryClient, waited: Waited
) -> None:
    species, mass = (frozen(platform, registry, name).manifest for name in ("penguins-species", "penguins-mass"))

    assert (species.rows, species.provenance.rejected) == (344, BROKEN)
    assert (mass.rows, mass.provenance.rejected) == (342, BROKEN | {"missing": 2})
    assert species.classes == ("Adelie", "Chinstrap", "Gentoo")
    assert mass.classes == ()


def test_species_are_told_of_birds_with_gaps(
    platform: Platform, registry: RegistryClient, inference: InferenceClient, waited: Waited
) -> None:
    reader = frozen(platform, registry, "penguins-species")
    columns = reader.columns("test")
    names = [field.name for field in reader.manifest.features]
    gaps = np.isnan(columns["bill_length_mm"]) | (columns["sex"] == "")

    answers = inference.infer("penguins-species", {name: columns[name] for name in names}).outputs["label"]

    assert waited["penguins-species"]["version"]["metrics"]["accuracy"] >= LEAST_ACCURACY
    assert np.mean(answers == columns["species"]) >= LEAST_ACCURACY
    assert {"fp32", "int8"} == {gate["variant"] for gate in waited["penguins-species"]["version"]["gates"]}
    everything = {name: np.concatenate([reader.columns(s)[name] for s in ("train", "validation")]) for name in names}
    assert gaps.any() or np.isnan(everything["bill_length_mm"]).any()


def tell_bills_apart(headrace: Callable[..., Any], folder: Path) -> None:
    """Explain a bird beside one that is the same but for its bill: nothing else adds to the answer."""
    (near := folder / "reference.json").write_text(json.dumps(BIRD | {"bill_length_mm": 37.0}))
    told = headrace("explain", "penguins-trees", "--reference", str(near), "--json", stdin=json.dumps(BIRD))
    assert told.returncode == 0, told.stderr
    (explained,) = json.loads(told.stdout)
    others, by_the_bill = explained["added"], explained["answer"] - explained["reference"]
    assert others.pop("bill_length_mm") == pytest.approx(by_the_bill, abs=1e-6)
    assert (explained["label"], set(others.values())) == ("Chinstrap", {0.0})
    assert by_the_bill > 0.5


def test_trees_are_released_without_the_variant_that_is_not_for_them_and_answer_calls(
    platform: Platform,
    registry: RegistryClient,
    inference: InferenceClient,
    headrace: Callable[..., Any],
    waited: Waited,
    tmp_path: Path,
) -> None:
    document = yaml.safe_load((EXAMPLES / "penguins-species" / "pipeline.yaml").read_text())
    document["metadata"]["name"] = "penguins-trees"
    document["train"] = {"network": {"kind": "trees", "rounds": 100}, "earlyStop": {"patience": 10}}
    file = tmp_path / "pipeline.yaml"
    file.write_text(json.dumps(document))
    applied = headrace("apply", str(file))
    assert applied.returncode == 0, applied.stderr
    result = headrace("wait", "penguins-trees", "--timeout", "150s", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    version = json.loads(result.stdout)["version"]

    columns = frozen(platform, registry, "penguins-trees").columns("test")
    truth = columns.pop("species")
    strange = {name: values.copy() for name, values in columns.items()}
    strange["bill_length_mm"][:], strange["island"][:], strange["sex"][:] = np.nan, "Atlantis", ""
    answers, others = (inference.infer("penguins-trees", rows).outputs for rows in (columns, strange))

    assert [variant["name"] for variant in version["variants"]] == ["fp32"]
    (told,) = (gate for gate in version["gates"] if gate["variant"] == "int8")
    assert told["reason"].startswith("int8-dynamic: expected at least one matrix product")
    assert np.mean(answers["label"] == truth) >= LEAST_ACCURACY
    tell_bills_apart(headrace, tmp_path)
    # What is served is what LightGBM says of the same rows, prepared as the dataset's transforms prepare them.
    store = ObjectStore(platform.connections.store_url)
    reader = frozen(platform, registry, "penguins-trees")
    trained = registry.versions("penguins-trees")[-1].trained
    booster = lightgbm.Booster(model_str=store.get(trained.weights).decode())
    for rows, served in ((columns, answers), (strange, others)):
        expected = booster.predict(reader.manifest.transforms.apply(rows))
        np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)


def test_rows_of_json_with_null_and_strangers_are_predicted(headrace: Callable[..., Any], waited: Waited) -> None:
    stranger = BIRD | {"island": "Atlantis", "bill_length_mm": None, "sex": "unheard of"}
    # A row may hold null, or lack the field, as records may.
    rows = "\n".join(json.dumps(row) for row in (BIRD, stranger, {"island": "Biscoe", "sex": None}))

    predicted = headrace("predict", "penguins-species", "--json", stdin=rows)
    table = headrace("predict", "penguins-mass", stdin=json.dumps(BIRD))

    assert predicted.returncode == 0, predicted.stderr
    views = json.loads(predicted.stdout)
    assert views[0]["label"] == "Chinstrap"
    assert all(sum(view["probabilities"]) == pytest.approx(1.0, abs=1e-5) for view in views)
    assert table.returncode == 0, table.stderr
    assert table.stdout.split()[:2] == ["row", "prediction"]


def test_a_prediction_is_explained(
    headrace: Callable[..., Any], inference: InferenceClient, waited: Waited, tmp_path: Path
) -> None:
    alone = headrace("explain", "penguins-species", "--json", stdin=json.dumps(BIRD))
    flocks = tmp_path / "flocks.json"
    flocks.write_text(
        json.dumps([BIRD | {"bill_length_mm": 38.0, "island": "Biscoe"}, BIRD | {"bill_length_mm": 40.0}])
    )
    against = headrace("explain", "penguins-species", "--reference", str(flocks), stdin=json.dumps(BIRD))

    assert alone.returncode == against.returncode == 0, alone.stderr + against.stderr
    (told,) = json.loads(alone.stdout)
    inputs = [tensor.name for tensor in inference.inputs("penguins-species")]
    assert (told["label"], sorted(told["added"])) == ("Chinstrap", sorted(inputs))
    # An int8 variant reads the range of its activations over all rows of a call: the same rows give the same answers.
    row = arrays_from_rows([BIRD], inference.inputs("penguins-species"))
    # An island may not be missing: it is taken away as one that no bird has had.
    gone = {name: value * np.nan for name, value in row.items() if value.dtype != object}
    gone |= {"island": np.array(["Atlantis"], object), "sex": np.array([""], object)}
    rows = [row, gone, *(row | {name: gone[name]} for name in inputs)]
    batch = {name: np.concatenate([each[name] for each in rows]) for name in inputs}
    answers = inference.infer("penguins-species", batch).outputs["probabilities"]
    place = answers[0].argmax()
    for name, without in zip(inputs, answers[2:], strict=True):
        assert told["added"][name] == pytest.approx(answers[0][place] - without[place], abs=1e-6)
    total = sum(told["added"].values()) + told["remainder"]
    assert total == pytest.approx(told["answer"] - told["reference"], abs=1e-5)
    assert against.stdout.split("\n")[0].startswith("row 1: Chinstrap ")
    assert all(name in against.stdout for name in ("bill_length_mm", "only together", "reference"))


def test_what_may_not_be_missing_is_named(
    headrace: Callable[..., Any], inference: InferenceClient, waited: Waited
) -> None:
    refused = headrace("predict", "penguins-species", stdin=json.dumps(BIRD | {"island": None}))

    assert refused.returncode == 1
    noted, error = refused.stderr.splitlines()
    assert noted == "left out, as model 'penguins-species' has no such input: 'species'"
    assert error == "error: row 1, field 'island': expected a string (BYTES), got null"
    with pytest.raises(Rejected, match="input 'species': expected a text"):
        inference.infer("penguins-mass", arrays(BIRD | {"species": ""}))


def test_mass_is_predicted_in_grams_and_hot_the_second_time(
    platform: Platform, registry: RegistryClient, inference: InferenceClient, waited: Waited
) -> None:
    reader = frozen(platform, registry, "penguins-mass")
    test = reader.columns("test")
    truth = test.pop("body_mass_g")

    predicted = inference.infer("penguins-mass", test).outputs["prediction"]
    first = inference.infer("penguins-mass", arrays(BIRD | {"bill_length_mm": None}))
    strange = arrays(BIRD)
    strange["bill_length_mm"] = np.array([0x7FC0BEEF], "<u4").view("<f4")
    del strange["sex"]
    again = inference.infer("penguins-mass", strange)

    rmse = float(np.sqrt(np.mean((predicted.astype(float) - truth) ** 2)))
    version = waited["penguins-mass"]["version"]
    assert predicted.dtype == np.float32
    assert rmse <= MOST_GRAMS
    assert version["metrics"]["rmse"] <= MOST_GRAMS
    assert {gate["gate"] for gate in version["gates"]} == {
        "errorRise",
        "sizeRatio",
        "latencyRatio",
        "benefit",
        "finite",
        "repeatable",
    }
    assert (first.cached, again.cached) == (False, True)
    assert first.outputs["prediction"] == again.outputs["prediction"]


def test_tables_show_the_error_of_a_regression(headrace: Callable[..., Any], waited: Waited) -> None:
    versions = headrace("get", "versions", "penguins-mass").stdout

    assert "rmse" in versions
    assert "errorRise" in versions
    assert "accuracy" not in versions
    training = next(stage for stage in waited["penguins-mass"]["stages"] if stage["name"] == "training")
    assert "test rmse" in training["text"]


def test_another_schema_goes_on_with_the_model(
    headrace: Callable[..., Any], inference: InferenceClient, waited: Waited, tmp_path: Path
) -> None:
    document = (EXAMPLES / "penguins-species" / "pipeline.yaml").read_text()
    lines = [line for line in document.splitlines() if "name: sex," not in line and not line.startswith("    sex:")]
    file = tmp_path / "pipeline.yaml"
    file.write_text("\n".join(lines))
    same_name = headrace("apply", str(file))
    assert same_name.returncode == 1
    assert "with train.model: penguins-species it serves the same model" in same_name.stderr

    changed = file.read_text().replace("{name: penguins-species}", "{name: penguins-species-2}")
    file.write_text(changed.replace("train:\n", "train:\n  model: penguins-species\n"))
    assert headrace("apply", str(file)).returncode == 0
    result = headrace("wait", "penguins-species-2", "--timeout", "150s", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    predicted = headrace("predict", "penguins-species", "--json", stdin=json.dumps(BIRD))

    view = json.loads(predicted.stdout)[0]
    assert (view["label"], view["version"]) == ("Chinstrap", "2")
    assert [spec.name for spec in inference.metadata("penguins-species").inputs] == [
        "island",
        "bill_length_mm",
        "bill_depth_mm",
        "flipper_length_mm",
        "body_mass_g",
    ]
    # Whoever is not ready for it keeps the version that takes the sex.
    old = arrays(BIRD) | {"body_mass_g": np.array([3325], np.float32)}
    del old["species"]
    assert inference.infer("penguins-species", old, version="1").outputs["label"].tolist() == ["Chinstrap"]


def arrays(bird: dict[str, Any]) -> dict[str, Any]:
    """Return one bird as the arrays that the model of masses takes."""
    numbers = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm")
    texts = ("species", "island", "sex")
    return {
        **{name: np.array([bird[name]], object).astype(np.float32) for name in numbers},
        **{name: np.array([bird[name]], object) for name in texts},
    }
