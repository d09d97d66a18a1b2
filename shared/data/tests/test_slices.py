"""Measures by slice: which rows are one, and what the worst of them says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Provenance
from headrace_data.spec import Field, Pipeline, SpecInvalid, load_pipeline
from headrace_data.tasks import (
    TASKS,
    Slices,
    SliceScores,
    in_each_slice,
    not_worse_in_slices,
    of_part,
    of_slice,
    worst_first,
)
from headrace_data.tasks.classification import LABEL, PROBABILITIES
from headrace_data.tasks.regression import PREDICTION

from .conftest import MemoryStore
from .test_dataset import rows, write
from .test_measure_rules import document

CITY = Field(name="city", type="string", role="feature")
YES = Field(name="yes", type="bool", role="feature")
AGE = Field(name="age", type="uint8", role="feature", nullable=True)
ACCURACY = TASKS["classification"].measures["accuracy"]
RMSE = TASKS["regression"].measures["rmse"]


def scored(fields, columns, answers, truth, task="classification", classes=("a", "b"), batches=1) -> dict[str, float]:
    slices = Slices.of(fields, [columns])
    scores = SliceScores(slices, lambda: TASKS[task].scores(classes))
    for places in np.array_split(np.arange(len(truth)), batches):
        some, given = ({name: each[places] for name, each in held.items()} for held in (columns, answers))
        scores.add(some, given, truth[places])
    return scores.metrics()


def answered(labels: str) -> dict[str, np.ndarray]:
    given = np.array(list(labels), dtype=object)
    sure = np.where(given == "a", 0.75, 0.25).astype(np.float32)
    return {PROBABILITIES: np.stack([sure, 1 - sure], axis=1), LABEL: given}


def texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


@pytest.mark.parametrize("batches", [1, 3])
def test_a_slice_is_measured_as_if_it_were_all_there_is(batches: int) -> None:
    columns = {"city": texts("Oslo", "Rome", "Oslo", "", "Rome", "Oslo"), "yes": np.array([1, 1, 1, 0, 0, 0])}
    found = scored([CITY, YES], columns, answered("aabbaa"), texts(*"abbbab"), batches=batches)

    assert {name: value for name, value in found.items() if name.endswith(("/rows", "/accuracy"))} == {
        "slice/city=/accuracy": 1.0,
        "slice/city=/rows": 1.0,
        "slice/city=Oslo/accuracy": 2 / 3,
        "slice/city=Oslo/rows": 3.0,
        "slice/city=Rome/accuracy": 0.5,
        "slice/city=Rome/rows": 2.0,
        "slice/yes=false/accuracy": 2 / 3,
        "slice/yes=false/rows": 3.0,
        "slice/yes=true/accuracy": 2 / 3,
        "slice/yes=true/rows": 3.0,
    }
    # A row of one class says nothing of an order.
    assert "slice/city=Rome/roc_auc" in found
    assert "slice/city=/roc_auc" not in found
    assert all(of_part(name) for name in found)
    # What is told of classes is not told of slices.
    assert not any(name.startswith("accuracy/") for name in found)


def test_rare_values_are_one_slice_and_numbers_may_be_missing() -> None:
    ages = np.array([*range(20), *range(25), math.nan, math.nan])
    predicted = {PREDICTION: np.where(np.isnan(ages), 1.0, 0.0)}
    found = scored([AGE], {"age": ages}, predicted, np.zeros(len(ages)), "regression", ())

    # 21 values come twice: the last of these in order, by their texts, is with those that come once.
    assert found["slice/age=/rows"] == found["slice/age=7/rows"] == 2.0
    assert found["slice/age others/rows"] == 7.0
    assert found["slice/age=/rmse"] == 1.0
    assert "slice/age=9/rows" not in found
    assert sum(value for name, value in found.items() if name.endswith("/rows")) == len(ages)


def test_the_worst_slice_of_enough_rows_decides() -> None:
    metrics = {f"slice/city={city}/rows": count for city, count in (("A/B", 40.0), ("Oslo", 30.0), ("Rome", 29.0))}
    metrics |= {"slice/city=A/B/accuracy": 0.9, "slice/city=Oslo/accuracy": 0.8, "slice/city=Rome/accuracy": 0.1}
    gate = in_each_slice(ACCURACY, 30)

    assert [each.name for each in worst_first(metrics, ACCURACY)] == ["city=Rome", "city=Oslo", "city=A/B"]
    assert (gate.name, gate.at_least, gate.of_itself) == ("slice/accuracy", True, True)
    assert gate.measured(metrics, {}) == 0.8
    assert gate.told is not None
    assert gate.told(metrics, {}) == "of city=Oslo, 30 rows"
    assert math.isnan(in_each_slice(ACCURACY, 41).measured(metrics, {}))
    errors = {"slice/x=1/rows": 30.0, "slice/x=1/rmse": 2.0, "slice/x=2/rows": 30.0, "slice/x=2/rmse": 3.0}
    assert in_each_slice(RMSE, 30).measured(errors, {}) == 3.0
    assert [each.name for each in worst_first({**errors, "slice/x=3/rows": 1.0}, RMSE)] == ["x=2", "x=1", "x=3"]


def test_the_slice_that_loses_most_decides() -> None:
    names = ("city=Oslo", "city=Rome", "city=Bonn")
    rows = {f"slice/{name}/rows": count for name, count in zip(names, (40.0, 30.0, 29.0), strict=True)}
    before = rows | {f"slice/{name}/accuracy": 0.9 for name in names}
    after = rows | {f"slice/{name}/accuracy": each for name, each in zip(names, (0.95, 0.85, 0.1), strict=True)}
    gate = not_worse_in_slices(ACCURACY, 30)

    assert (gate.name, gate.at_least, gate.of_itself, of_slice(gate.name)) == (
        "slice/worse/accuracy",
        False,
        False,
        True,
    )
    assert gate.measured(after, before) == pytest.approx(0.05)
    assert gate.told is not None
    assert gate.told(after, before) == "of city=Rome, 30 rows"
    assert math.isnan(not_worse_in_slices(ACCURACY, 41).measured(after, before))
    assert math.isnan(gate.measured(after, rows))
    errors, fewer = ({"slice/x=1/rows": 30.0, "slice/x=1/rmse": each} for each in (3.0, 2.0))
    assert not_worse_in_slices(RMSE, 30).measured(errors, fewer) == 1.0


def test_what_is_no_feature_is_read_beside_them(mixed: Pipeline, provenance: Provenance) -> None:
    store = MemoryStore()
    batch = rows(mixed, 60)
    manifest = write(mixed, store, provenance, batch)
    beside = [mixed.stream.field("team"), mixed.stream.field("age")]

    plain, told = DatasetReader(manifest, store).columns("test"), DatasetReader(manifest, store, beside).columns("test")

    assert told.keys() - plain.keys() == {"team"}
    stored = [team for each in DatasetReader(manifest, store).batches("test") for team in each["team"].to_pylist()]
    assert told["team"].tolist() == [str(team) for team in stored]
    assert told["age"].tolist() == plain["age"].tolist()


SLICED = document().replace("x, type: float32", "city, type: string, role: slice}\n    - {name: x, type: float32")


def test_slices_are_in_no_digest_until_they_are_asked_for() -> None:
    plain = load_pipeline(document()).canonical_json().decode()
    assert "slices" not in plain
    assert "sliceRows" not in plain
    asked = SLICED.replace("kind: mlp}", "kind: mlp}, slices: [city]").replace(
        "gates: {}", "gates: {slices: {f1: 0.5}}"
    )
    pipeline = load_pipeline(asked)
    assert pipeline.train.slices == ("city",)
    assert [field.name for field in pipeline.stream.features] == ["x"]
    assert pipeline.compress.gates.slice_rows == 30


@pytest.mark.parametrize(
    ("train", "gates", "told"),
    [
        ("[citi]", "", "did you mean 'city'.*, fields of stream.schema, got 'citi'"),
        ("[x]", "", r"train.slices\[0\]: expected a single text, bool or whole number, got 'x' of type float32"),
        ("[y]", "", "expected a feature, a group or a slice, got 'y' with role label"),
        ("[id]", "", "expected a feature, a group or a slice, got 'id' with role id"),
        ("[city, city]", "", r"train.slices\[1\]: expected each field once, got 'city' again"),
        ("[]", "slices: {f1: 0.5}", "compress.gates.slices: expected fields in train.slices to tell slices apart by"),
        ("[]", "worseInSlices: {f1: 0.5}", "compress.gates.worseInSlices: expected fields in train.slices to tell"),
        ("[city]", "worseInSlices: {f1: 1}", "compress.gates.worseInSlices.f1: expected less than 1, as f1 is a share"),
        ("[city]", "slices: {rmse: 3}", "compress.gates.slices.rmse: expected one of accuracy"),
        ("[city]", "slices: {f1: 3}", "compress.gates.slices.f1: expected 0 to 1, got 3"),
        ("[city]", "sliceRows: 0", "sliceRows: expected greater than"),
    ],
)
def test_what_cannot_be_sliced_is_refused(train: str, gates: str, told: str) -> None:
    asked = SLICED.replace("kind: mlp}", f"kind: mlp}}, slices: {train}").replace("gates: {}", f"gates: {{{gates}}}")
    with pytest.raises(SpecInvalid, match=told):
        load_pipeline(asked)


def test_a_slice_has_few_values() -> None:
    with pytest.raises(SpecInvalid, match="whole number, bool or string for role slice, got float32"):
        load_pipeline(SLICED.replace("type: string, role: slice", "type: float32, role: slice"))
