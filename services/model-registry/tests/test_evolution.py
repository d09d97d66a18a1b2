"""How a stream may change under its pipeline's name: rows of before must be rows of it."""

import pytest
from headrace_data.spec import Pipeline, load_pipeline
from headrace_model_registry.core.evolution import require_same_rows
from headrace_runtime.errors import FailedPrecondition

INK = "    - {name: ink, type: float32, role: feature, nullable: true}\n    - {name: digit"

LATER = ("  topic: digits\n", "  topic: digits\n  labels: {topic: outcomes}\n")


def pipeline(world, *changes: tuple[str, str]) -> Pipeline:
    document = world.document().decode()
    for old, new in changes:
        assert old in document
        document = document.replace(old, new)
    return load_pipeline(document)


@pytest.mark.parametrize(
    "change",
    [
        ("    - {name: digit", INK),
        ("    - {name: pixels", INK.replace("digit", "pixels")),
        ("name: pixels, type: float32", "name: pixels, type: float64"),
        ("range: [0, 16]", "range: [0, 15]"),
        ("range: [0, 16]", "unit: ink, nullable: true, range: [-1, 16.5]"),
        LATER,
    ],
)
def test_rows_of_before_are_rows_of_what_grows(world, change):
    require_same_rows(pipeline(world, change), pipeline(world).stream)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("    - {name: digit", INK.replace(", nullable: true", "")), "schema field 'ink'"),
        (("name: pixels, type: float32", "name: pixels, type: int32"), "schema field 'pixels'"),
        (("name: digit, type: int64", "name: digit, type: int32"), "schema field 'digit'"),
        (("name: id, type: string", "name: id, type: int64"), "schema field 'id'"),
    ],
)
def test_what_rows_of_before_are_not_is_refused(world, change, named):
    with pytest.raises(FailedPrecondition, match=rf"\({named}\)"):
        require_same_rows(pipeline(world, change), pipeline(world).stream)


def test_what_has_grown_does_not_shrink(world):
    for change in (("    - {name: digit", INK), ("name: pixels, type: float32", "name: pixels, type: float64")):
        with pytest.raises(FailedPrecondition):
            require_same_rows(pipeline(world), pipeline(world, change).stream)


def test_how_long_labels_may_take_can_change(world):
    longer = (LATER[0], LATER[1].replace("}", ", within: 30d}"))
    require_same_rows(pipeline(world, longer), pipeline(world, LATER).stream)
    for change in ((), ((LATER[0], LATER[1].replace("outcomes", "results")),)):
        with pytest.raises(FailedPrecondition, match=r"\(labels\)"):
            require_same_rows(pipeline(world, *change), pipeline(world, LATER).stream)
