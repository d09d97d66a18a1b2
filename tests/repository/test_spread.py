"""How several processes share the tests: what shares a platform stays together, and what takes longest starts first."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def spread(request: pytest.FixtureRequest) -> ModuleType:
    module = request.config.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    assert isinstance(module, ModuleType)
    return module


def test_every_path_of_the_order_leads_to_tests(spread: ModuleType) -> None:
    for part in (part for parts in spread.UNITS for part in parts):
        folder, _, name = part.rpartition("/")
        assert any(path.name.startswith(name) for path in (ROOT / folder).iterdir()), part


def test_tests_of_the_platform_are_one_unit_and_files_with_their_own_are_others(spread: ModuleType) -> None:
    shared = {spread.unit(f"tests/e2e/{name}.py::test_a") for name in ("test_faults", "test_trace", "test_new")}
    assert len(shared) == 1
    assert spread.unit("tests/e2e/test_chaos.py::test_a") not in shared
    assert spread.unit("tests/e2e/test_kills.py::test_a") in shared
    lanes = {
        spread.unit(f"tests/contract/test_{name}.py::test_a[b/c]") for name in ("poison", "preprocessing_freezing")
    }
    assert len(lanes) == 1


def test_stories_that_share_a_platform_have_pipelines_and_topics_of_their_own() -> None:
    """A second story that applies a pipeline of the same name goes on with the first one's versions and records."""
    named: Counter[str] = Counter()
    for path in (ROOT / "tests" / "e2e").glob("*_*.py"):
        text = path.read_text()
        named.update(set(re.findall(r"^(metadata: \{+name: [a-z][\w-]*|  topic: [a-z][\w-]*)", text, re.MULTILINE)))
    assert len(named) > 10
    assert [name for name, stories in named.items() if stories > 1] == []


def test_any_other_file_is_a_unit_after_those_that_are_named(spread: ModuleType) -> None:
    place, name = spread.unit("shared/data/tests/test_split.py::test_a[tests/e2e/x]")
    assert name == "shared/data/tests/test_split.py"
    others = [spread.unit(f"tests/contract/{name}.py::test_a")[0] for name in ("test_kafka", "registry/test_past")]
    assert place > others[0] > others[1]
