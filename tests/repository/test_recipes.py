"""The recipes of docs/extending.md name what is there: paths, commands, and names that the code has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THIS = Path(__file__).relative_to(ROOT)
PAGE = (ROOT / "docs" / "extending.md").read_text()
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
FOLDERS = ("clients", "deploy", "docs", "examples", "scripts", "services", "shared", "tests")
ENDINGS = (".json", ".md", ".py", ".toml", ".typed", ".yaml")
PLACEHOLDER = re.compile(r"\b(mine|My\w+|headrace_mine)\b")
"""What stands for the reader's own."""
KEYWORDS = ("False", "None", "True")
NAME = re.compile(r"[A-Za-z_]\w*")


def fences() -> list[str]:
    return [text for kind, text in FENCE.findall(PAGE) if kind == "python"]


def spans() -> list[str]:
    """Return what stands in backticks, and the Python of the page line by line."""
    lines = [line.partition("#")[0] for text in fences() for line in text.splitlines()]
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", PAGE)) + lines


def is_path(span: str) -> bool:
    return re.fullmatch(r"[\w./-]+", span) is not None and ("/" in span or span.endswith(ENDINGS))


@cache
def files() -> tuple[Path, ...]:
    """Return every file and folder that a path may be, from the root."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    return tuple(path.relative_to(ROOT) for path in (*found, *ROOT.glob("*")))


@cache
def known() -> frozenset[str]:
    """Return every name that the code, or the page itself, gives to something, takes from elsewhere or reads of it."""
    texts = [(ROOT / path).read_text() for path in files() if path.suffix == ".py" and path != THIS]
    code = "\n".join([*texts, *fences()])
    made = re.findall(r"\b(?:class|def) (\w+)|^ *(\w+)(?=:| =)|\.(\w+)|[( ](\w+)=|\"(HEADRACE_)\"", code, re.MULTILINE)
    taken = re.findall(r"^(?:from .*|)import (?:\(([^)]*)\)|(.*))", code, re.MULTILINE)
    return frozenset(NAME.findall(" ".join(each for group in (*made, *taken) for each in group)))


def names(span: str) -> Iterator[str]:
    """Yield what is a name of the code by its look: with an underscore, or a capital in it."""
    for name in NAME.findall(re.sub(r'"[^"]*"', "", span)):
        looks = re.search(r"_|[a-z][A-Z]|^[A-Z][a-z]|^[A-Z]{3}", name)
        if looks and name not in KEYWORDS and not PLACEHOLDER.fullmatch(name):
            yield name


def is_known(name: str) -> bool:
    """Tell whether the code has something of this name, or a spec a key that is written so."""
    field = re.sub(r"(?<=[a-z])[A-Z]", lambda found: f"_{found[0].lower()}", name)
    return not {name, field}.isdisjoint(known())


PATHS = sorted({span for span in spans() if is_path(span) and not PLACEHOLDER.search(span)})
NAMES = sorted({name for span in spans() if not is_path(span) for name in names(span)})


def test_the_page_names_enough_to_be_looked_at() -> None:
    assert len(PATHS) > 20
    assert {"TRANSFORMS", "FAMILIES", "METHODS", "SERVICES", "NetworkFamily", "early_stop"} <= set(NAMES)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_of_a_recipe_is_there(path: str) -> None:
    """One that begins within a package, such as core/run.py, is the end of some file's."""
    assert any(f"/{each}".endswith(f"/{path.rstrip('/')}") for each in files())


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_a_recipe_is_one_of_the_code(name: str) -> None:
    assert is_known(name)


def test_a_command_of_a_recipe_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for span in spans() if span.startswith("make ") for target in span.split()[1:]}
    assert {"docs"} <= named <= targets


def test_what_is_not_there_is_seen() -> None:
    assert not is_known("GRAPHZ")
    assert not is_known("FittedNothing")
    assert not is_known("earlyHalt")
    assert [*names("`run.checkpoints` of `MyNetwork` by `_LAYERS`")] == ["_LAYERS"]
