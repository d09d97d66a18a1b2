"""The house plan holds: every service has the same shape, cores are pure, files and functions stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from headrace_runtime.services import SERVICES

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "__init__.py", "__main__.py", "py.typed", "settings.py", "wiring.py", "errors.py", "ports.py", "child.py",
    "rank.py",
    "node.py", "pod.py",
    "core", "adapters", "transport",
}  # fmt: skip
IMPURE = (
    "grpc",
    "kafka",
    "redis",
    "fsspec",
    "opentelemetry.sdk",
    "headrace.",
    "headrace_runtime.kafka",
    "headrace_runtime.rpc",
)
WIRING = ("__main__.py", "wiring.py", "child.py", "rank.py", "node.py", "pod.py")
"""What puts the parts of a process together: of the service, and of its children."""
LONGEST_FILE = 400
LONGEST_FUNCTION = 40
LONGEST_STORY = 60
"""Longest function of tests and programs, which tell what happens one step after the other."""


def package(service: str) -> Path:
    return ROOT / "services" / service / "src" / f"headrace_{service.replace('-', '_')}"


def python_files() -> list[Path]:
    folders = ("benchmarks", "clients", "deploy", "examples", "scripts", "services", "shared", "tests")
    generated = ROOT / "shared" / "contracts"
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py") if not path.is_relative_to(generated)]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_the_house_shape(service: str) -> None:
    folder = ROOT / "services" / service
    assert {"pyproject.toml", "README.md", "src", "tests"} <= {path.name for path in folder.iterdir()}
    found = {path.name for path in package(service).iterdir() if path.name != "__pycache__"}
    assert found <= ALLOWED
    assert {"__main__.py", "settings.py", "wiring.py", "core", "transport", "py.typed"} <= found
    assert len((package(service) / "__main__.py").read_text().splitlines()) <= 12
    assert any((folder / "tests").glob("test_*.py"))


@pytest.mark.parametrize("service", SERVICES)
def test_a_core_is_pure(service: str) -> None:
    for path in (package(service) / "core").rglob("*.py"):
        impure = {name for name in imports(path) if name.startswith(IMPURE) or name in IMPURE or name.endswith("_pb2")}
        assert not impure, f"{path.relative_to(ROOT)} imports {impure}"


LOADED = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sys.modules)
"""


@pytest.mark.parametrize("service", SERVICES)
def test_a_core_loads_nothing_impure(service: str) -> None:
    """What it imports may import more: an interpreter of its own tells."""
    folder = package(service)
    names = [
        ".".join(path.relative_to(folder.parent).with_suffix("").parts)
        for path in sorted((folder / "core").glob("*.py"))
    ]
    ran = subprocess.run([sys.executable, "-c", LOADED, *names], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert loaded >= set(names)
    # A graph is protobuf: where one is built or read, that is no envelope.
    impure = IMPURE if "onnx" in loaded else (*IMPURE, "google.protobuf")
    assert not {name for name in loaded if f"{name}.".startswith(tuple(f"{each.rstrip('.')}." for each in impure))}


@pytest.mark.parametrize("service", SERVICES)
def test_only_wiring_names_adapters(service: str) -> None:
    """Adapters and transport import each other nowhere: wiring, or the child that a run is, puts them together."""
    folder = package(service)
    rooms = {f"{folder.name}.{room}": folder / room for room in ("adapters", "transport")}
    for path in folder.rglob("*.py"):
        if path.parent == folder and path.name in WIRING:
            continue
        for room, home in rooms.items():
            named = {name for name in imports(path) if f"{name}.".startswith(f"{room}.")}
            assert not named or path.is_relative_to(home), f"{path.relative_to(ROOT)} imports {named}"


@pytest.mark.parametrize("service", SERVICES)
def test_services_never_import_each_other(service: str) -> None:
    others = {f"headrace_{other.replace('-', '_')}" for other in SERVICES if other != service}
    for path in package(service).rglob("*.py"):
        foreign = {name for name in imports(path) if name.split(".")[0] in others}
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_torch_lives_in_learning_only() -> None:
    allowed = (ROOT / "shared" / "learning", ROOT / "services" / "trainer")
    for path in python_files():
        if "src" in path.parts and "torch" in {name.split(".")[0] for name in imports(path)}:
            assert any(path.is_relative_to(folder) for folder in allowed), path


def test_files_and_functions_stay_small() -> None:
    too_long = []
    for path in python_files():
        text = path.read_text()
        if len(text.splitlines()) > LONGEST_FILE:
            too_long.append(f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > (LONGEST_FUNCTION if "src" in path.parts else LONGEST_STORY):
                    too_long.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {lines} lines")
    assert not too_long


def test_nothing_is_left_unfinished() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error")
    for path in python_files():
        text = path.read_text()
        assert not [mark for mark in marks if mark in text], path
