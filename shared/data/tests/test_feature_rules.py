"""Tabular pipelines: every contradiction between schema, transforms and task is told with its line and path."""

from collections.abc import Callable
from pathlib import Path

import pytest
from headrace_data.spec import Constant, Pipeline, SpecInvalid, load_pipeline, parse_canonical
from headrace_data.tasks import TASKS, Task

EXAMPLES = Path(__file__).parents[3] / "examples"
TABLE = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: table}
stream:
  topic: table
  schema:
    - {name: id, type: string, role: id}
    - {name: length, type: float32, role: feature, nullable: true}
    - {name: rooms, type: int64, role: feature}
    - {name: colour, type: string, role: feature, nullable: true}
    - {name: y, type: int64, role: label}
prepare:
  clean: {missing: keep}
  transform:
    length: {impute: median, scale: robust}
    colour: {impute: {constant: none}, encode: onehot}
train:
  network: {kind: mlp}
"""


def problems(document: str) -> list[str]:
    with pytest.raises(SpecInvalid) as caught:
        load_pipeline(document)
    return [str(problem) for problem in caught.value.problems]


def changed(*changes: tuple[str, str]) -> str:
    document = TABLE
    for old, new in changes:
        assert old in document
        document = document.replace(old, new)
    return document


def kinds(which: Callable[[Task], bool], article: str = "") -> str:
    """Return the tasks that are told of, as a sentence has them: another one is told of without a word here."""
    return " or ".join(f"{article}{kind}" for kind, task in TASKS.items() if which(task))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/pipeline.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_are_right_and_keep_their_meaning_as_canonical_json(path: Path) -> None:
    pipeline = load_pipeline(path.read_bytes())

    again = parse_canonical(pipeline.canonical_json())

    assert again == pipeline
    assert again.digest == pipeline.digest
    assert pipeline.name == path.parent.name


@pytest.mark.parametrize(("name", "task"), [("penguins-species", "classification"), ("penguins-mass", "regression")])
def test_the_penguins_have_gaps_and_a_task(name: str, task: str) -> None:
    pipeline = load_pipeline((EXAMPLES / name / "pipeline.yaml").read_bytes())

    assert pipeline.optional("sex")
    assert not pipeline.optional("island")
    assert pipeline.task == task


def test_a_constant_is_a_number_or_a_text() -> None:
    pipeline = load_pipeline(changed(("median", "{constant: 40.0}")))

    assert pipeline.transform("length").impute == Constant(constant=40)
    assert pipeline.transform("colour").impute == Constant(constant="none")
    assert pipeline.transform("rooms").impute is None
    assert load_pipeline(changed(("median", "{constant: 40}"))).digest == pipeline.digest


@pytest.mark.parametrize(
    ("label", "task", "expected"),
    [
        ("int64", "", "classification"),
        ("string", "", "classification"),
        ("float32", "", "regression"),
        ("float64", "", "regression"),
        ("int64", "task: regression", "regression"),
        ("float64", "task: regression", "regression"),
        ("string", "task: classification", "classification"),
    ],
)
def test_the_task_follows_from_the_label_unless_it_is_named(label: str, task: str, expected: str) -> None:
    document = changed(("y, type: int64", f"y, type: {label}"), ("train:\n", f"train:\n  {task}\n"))

    assert load_pipeline(document).task == expected


def test_defaults_leave_the_digests_of_older_specs_alone() -> None:
    plain = load_pipeline(TABLE)
    spelled = TABLE.replace("train:\n", "train:\n  classWeights: none\n")

    assert load_pipeline(spelled).digest == plain.digest
    assert b"classWeights" not in plain.canonical_json()
    assert b"errorRise" not in plain.canonical_json()
    assert b"predictionType" not in plain.canonical_json()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            [("    colour: {impute: {constant: none}, encode: onehot}\n", ""), ("missing: keep", "missing: drop")],
            "line 10: stream.schema[3].type: expected prepare.transform.colour.encode (onehot, ordinal, hash, target "
            "or text) for a string feature, got none",
        ),
        (
            [(", encode: onehot", "")],
            "line 16: prepare.transform.colour: expected encode (onehot, ordinal, hash, target or text) for the string "
            "feature 'colour', got none",
        ),
        (
            [("impute: median, ", "")],
            "line 8: stream.schema[1].nullable: expected prepare.transform.length.impute while prepare.clean.missing "
            "is keep, got none: nothing fills the gaps",
        ),
        (
            [("role: label", "role: label, nullable: true")],
            "line 11: stream.schema[4].nullable: expected false for a label while prepare.clean.missing is keep, "
            "got true",
        ),
        (
            [("encode: onehot", "encode: onehot, scale: standard")],
            "line 16: prepare.transform.colour.scale: expected scale on numbers only, got it on 'colour' of type "
            "string",
        ),
        (
            [("scale: robust", "encode: ordinal")],
            "line 15: prepare.transform.length.encode: expected ordinal on string features only, got it on 'length' of "
            "float32",
        ),
        (
            [("role: feature, nullable: true}\n    - {name: rooms", "role: feature}\n    - {name: rooms")],
            "line 15: prepare.transform.length.impute: expected a nullable feature, got 'length' with nullable: false, "
            "which is never missing",
        ),
        (
            [("{constant: none}", "mean")],
            "line 16: prepare.transform.colour.impute: expected mostFrequent or {constant: TEXT} for a string feature, "
            "got mean",
        ),
        (
            [("{constant: none}", "{constant: 3}")],
            "line 16: prepare.transform.colour.impute.constant: expected a text for a string feature, got 3",
        ),
        (
            [("{constant: none}", "{constant: ''}")],
            'line 16: prepare.transform.colour.impute.constant: String should have at least 1 character, got ""',
        ),
        (
            [("median", "{constant: long}")],
            "line 15: prepare.transform.length.impute.constant: expected a number for a feature of type float32, "
            "got 'long'",
        ),
        (
            [("median", "{constant: 1e39}")],
            "line 15: prepare.transform.length.impute.constant: expected a value that float32 can hold, got 1e+39",
        ),
        (
            [("median", "{constant: true}")],
            "line 15: prepare.transform.length.impute.constant: expected a number or a text, got true",
        ),
        (
            [("median", "average")],
            "line 15: prepare.transform.length.impute: expected mean, median, mostFrequent or {constant: VALUE}, "
            'got "average"',
        ),
        (
            [("median", "{constant: 3, unit: mm}")],
            "line 15: prepare.transform.length.impute.unit: unknown key; expected one of constant",
        ),
        (
            [("    length:", "    rooms: {}\n    length:")],
            "line 15: prepare.transform.rooms: expected impute, encode or scale, got none of them",
        ),
        (
            [("colour, type: string", "colour, type: string, shape: [2]")],
            "line 10: stream.schema[3].shape: expected a single value for a string feature, got shape [2]",
        ),
        (
            [("{kind: mlp}", "{kind: mlp}\n  task: regression\n  classWeights: balanced")],
            "line 20: train.classWeights: expected none for a regression, as only a classification or a multilabel "
            "heeds it, got 'balanced'",
        ),
        (
            [("{kind: mlp}", "{kind: mlp}\n  predictionType: float64")],
            "line 19: train.predictionType: expected none for a classification, as only "
            f"{kinds(lambda task: 'predictionType' in task.heeds, 'a ')} heeds it, got 'float64'",
        ),
        (
            [("y, type: int64", "y, type: float32"), ("{kind: mlp}", "{kind: mlp}\n  task: classification")],
            "line 19: train.task: expected "
            f"{kinds(lambda task: 'float32' not in task.unfit and 0 in task.dimensions)} for a label of type float32, "
            "got classification",
        ),
        (
            [("y, type: int64", "y, type: string"), ("{kind: mlp}", "{kind: mlp}\n  task: regression")],
            "line 19: train.task: expected classification or generation for a label of type string, got regression",
        ),
        (
            [("{kind: mlp}", "{kind: mlp}\ncompress: {gates: {errorRise: 0.1}}")],
            "line 19: compress.gates.errorRise: expected gates of a classification (accuracyDrop, agreement, "
            "relativeLogitError, klDivergence, sizeRatio, latencyRatio, benefit), got one of "
            f"{kinds(lambda task: 'errorRise' in [gate.name for gate in task.gates], 'a ')}",
        ),
        (
            [("y, type: int64", "y, type: float32"), ("{kind: mlp}", "{kind: mlp}\ncompress: {gates: {agreement: 1}}")],
            "line 19: compress.gates.agreement: expected gates of a regression (errorRise, sizeRatio, latencyRatio, "
            "benefit), got one of a classification or a multilabel",
        ),
    ],
)
def test_a_contradiction_is_told_once_with_line_and_path(changes: list[tuple[str, str]], expected: str) -> None:
    assert problems(changed(*changes)) == [expected]


@pytest.mark.parametrize("name", ["label", "probabilities", "logits", "classes", "prediction"])
def test_the_names_of_answers_are_no_features_names(name: str) -> None:
    assert problems(changed(("rooms", name))) == [
        f"line 9: stream.schema[2].name: expected another name for a feature: {name!r} belongs to the model's answers"
    ]
    called_so: Pipeline = load_pipeline(changed(("{name: y", f"{{name: {name}")))
    assert called_so.stream.label.name == name


def test_gaps_may_be_dropped_and_still_be_filled_for_callers() -> None:
    pipeline = load_pipeline(changed(("missing: keep", "missing: drop")))

    assert pipeline.optional("length")
