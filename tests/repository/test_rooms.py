"""Packages have rooms: folders that import each other in one direction, so that each can be read by itself."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("*/*/src/headrace_*/py.typed"))
RUNTIME = ROOT / "shared" / "runtime" / "src" / "headrace_runtime"
COMMANDS = ("access", "backup", "health_check", "provision")
"""Modules beside the rooms that are run by name (`python -m headrace_runtime.backup`), and imported by no other."""


def modules(package: Path) -> dict[str, Path]:
    """Return the modules of a package by their names."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Return the modules of `known` that a file imports anywhere, for types alone too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            within = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update({name if name in known else node.module for name in within})
    return found & known.keys()


def room(package: Path, path: Path) -> str:
    """Return the folder of a module, or the module itself where it lies beside the rooms.

    Ports are a part of the core, whose values they speak of.
    """
    if path == package / "ports.py":
        return "core"
    return str(path.relative_to(package) if path.parent == package else path.parent.relative_to(package))


def circle(edges: Iterable[tuple[str, str]]) -> list[str]:
    """Return nodes that lead back to the first of them, none where no way does."""
    graph: dict[str, set[str]] = {}
    for start, end in edges:
        if start != end:
            graph.setdefault(start, set()).add(end)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(node) for node in error.args[1]]
    return []


def test_a_circle_is_seen() -> None:
    assert circle([("a", "b"), ("b", "c"), ("a", "a")]) == []
    assert set(circle([("a", "b"), ("b", "c"), ("c", "a")])) == {"a", "b", "c"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_rooms_import_each_other_in_one_direction(package: Path) -> None:
    known = modules(package)
    ways = {
        (room(package, path), room(package, known[name])): f"{path.relative_to(package)} imports {name}"
        for path in known.values()
        for name in imported(path, known)
    }
    found = circle(ways)
    assert not found, [ways[way] for way in pairwise(reversed(found))]


def test_beside_the_rooms_of_the_runtime_are_its_ground_and_its_commands() -> None:
    known = modules(RUNTIME)
    commands = {f"{RUNTIME.name}.{name}" for name in COMMANDS}
    assert commands < known.keys()
    for name, path in known.items():
        found = imported(path, known)
        assert not found & commands, f"{name} imports a command"
        if path.parent == RUNTIME and name not in commands:
            in_rooms = {other for other in found if known[other].parent != RUNTIME}
            assert not in_rooms, f"{name} lies beside the rooms, and they import it: it imports {in_rooms}"


def test_one_module_names_the_private_parts_of_kafka_python() -> None:
    private = {path.name for path in (RUNTIME / "kafka").glob("*.py") if "noqa: SLF001" in path.read_text()}
    assert private == {"internals.py"}
