"""A kind is one file in one literal table: the kinds of the spec are the keys of the tables, and names stay in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from headrace_client.report import dataset_page
from headrace_client.stages import LEFT_OUT
from headrace_data.cleaning import DUPLICATES, RULES
from headrace_data.leaving_out import DATASET_RULES
from headrace_data.near import CONTAMINATED, NEAR_DUPLICATES
from headrace_data.outliers import OUTLIER_RULES, OUTLIERS
from headrace_data.spec import REFERENCE_VARIANT, VARIANT_NAMES, AnyVariant, Clean, Gates, Optimizer, Outliers, Train
from headrace_data.spec.optimizer import AnySchedule
from headrace_data.spec.transform import KINDS
from headrace_data.tasks import COMMON_GATES, EMBEDDING_GATE, MEMBERSHIP_GATE, TASKS, TaskKind
from headrace_data.transforms import TRANSFORMS
from headrace_learning.families import FAMILIES
from headrace_learning.heads import HEADS
from headrace_learning.methods import METHODS
from headrace_learning.training.optimizers import KINDS as KINDS_OF_OPTIMISER
from headrace_learning.training.schedules import SCHEDULES
from headrace_learning.transform_graphs import GRAPHS

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "shared" / "data" / "src" / "headrace_data" / "tasks"
SOURCES = [
    path
    for folder in ("clients", "deploy/local", "services", "shared")
    for path in (ROOT / folder).rglob("*.py")
    if "src" in path.parts and "contracts" not in path.parts and not path.is_relative_to(ROOM)
]


def texts(path: Path) -> Iterator[str]:
    """Yield the texts of a file, but for docstrings."""
    tree = ast.parse(path.read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def test_the_tasks_of_the_spec_are_those_of_the_table() -> None:
    assert set(get_args(TaskKind)) == TASKS.keys() == HEADS.keys()
    assert all(task.kind == kind for kind, task in TASKS.items())


def test_each_cleaning_rule_has_a_key_of_the_spec_and_words() -> None:
    keys = {field.alias for field in Clean.model_fields.values()}
    assert {*RULES, DUPLICATES} - {"overflow"} <= keys  # what nothing can be computed beside is no wish
    assert set(DATASET_RULES) <= keys
    assert set(get_args(Outliers.model_fields["rule"].annotation)) == OUTLIER_RULES.keys()
    assert {*RULES, DUPLICATES, *LEFT_OUT} <= dataset_page.RULES.keys()
    assert {OUTLIERS, CONTAMINATED, NEAR_DUPLICATES} == LEFT_OUT.keys()


def test_what_tasks_heed_are_keys_of_the_section_train() -> None:
    keys = {field.alias for field in Train.model_fields.values()}
    assert {name for task in TASKS.values() for name in task.heeds} <= keys


def test_each_gate_has_a_limit_in_the_spec_under_its_name() -> None:
    known = {field.alias: name for name, field in Gates.model_fields.items()}
    gates = [*COMMON_GATES, EMBEDDING_GATE, MEMBERSHIP_GATE, *(gate for task in TASKS.values() for gate in task.gates)]
    assert all(known[gate.name] == gate.setting for gate in gates)


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_is_known_by_its_outputs_and_its_measures(kind: str) -> None:
    task = TASKS[kind]
    others = [each for each in TASKS.values() if each is not task]
    assert task.measures[task.headline.name] is task.headline
    assert all(name == measure.name for name, measure in task.measures.items())
    assert not any(set(task.outputs) & set(other.outputs) for other in others)
    assert not any(task.measures.keys() & other.measures.keys() for other in others)


def test_names_of_measurements_stand_in_their_room_alone() -> None:
    """A name that another module reads would have to be found there when a task is added."""
    names = {name for task in TASKS.values() for name in (*task.measures, task.beside)}
    # Words of the spec and of pages are texts of their own: this is about names of measurements as they are.
    allowed = {("report/charts.py", "accuracy")}
    found = {
        ("/".join(path.parts[-2:]), text)
        for path in SOURCES
        for text in texts(path)
        if text in names or text.removeprefix("baseline_").removesuffix("/") in names
    }
    assert found <= allowed, found - allowed


def test_every_transform_of_a_spec_has_its_arithmetic_and_its_graph() -> None:
    assert set(TRANSFORMS) == set(GRAPHS) == KINDS


def kinds(annotation: object) -> set[str]:
    """Return the kinds of a section of the spec, or of a union of sections."""
    return {
        kind
        for section in get_args(annotation) or (annotation,)
        for kind in get_args(section.model_fields["kind"].annotation)
    }


def test_the_networks_of_the_spec_are_the_families_of_the_table() -> None:
    assert kinds(Train.model_fields["network"].annotation) == FAMILIES.keys()


def test_the_variants_of_the_spec_are_the_methods_of_the_table() -> None:
    assert kinds(get_args(AnyVariant)[0]) == METHODS.keys()
    names = [REFERENCE_VARIANT, *VARIANT_NAMES.values()]
    assert len(set(names)) == len(names)
    assert VARIANT_NAMES.keys() == METHODS.keys() - {"chain"}


def test_the_optimisers_and_schedules_of_the_spec_are_those_of_the_tables() -> None:
    assert set(get_args(Optimizer.model_fields["kind"].annotation)) == KINDS_OF_OPTIMISER.keys()
    schedules = {get_args(each.model_fields["kind"].annotation)[0] for each in get_args(AnySchedule)}
    assert schedules == SCHEDULES.keys()
