"""What keeps changes alike: the hooks run the project's own checks, and everything has one version."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SUBJECT = ROOT / "scripts" / "commit_subject.py"


@pytest.fixture
def versions() -> ModuleType:
    specification = importlib.util.spec_from_file_location("versions", ROOT / "scripts" / "versions.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def said(path: Path, message: str) -> tuple[int, str]:
    path.write_text(message)
    done = subprocess.run([sys.executable, str(SUBJECT), str(path)], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "message",
    [
        "ingestion: wait for late topics",
        "kafka, rpc: name the broker\n\nIt was hard to tell which one had gone.\n",
        "deploy/helm: render once\n# Please enter the commit message\n",
        "Merge branch 'main' into long-name-of-a-branch-that-somebody-made-for-a-very-large-change",
        "fixup! ingestion: wait for late topics",
    ],
)
def test_a_subject_with_a_scope_is_taken(tmp_path: Path, message: str) -> None:
    assert said(tmp_path / "message", message) == (0, "")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("ingestion: " + "x" * 62, "73 characters, expected 72 at most"),
        ("Wait for late topics", "expected a subject like"),
        ("ingestion:wait", "expected a subject like"),
        ("", "expected a subject like"),
        ("ingestion: wait\nfor late topics", "empty line between the subject and the body"),
    ],
)
def test_any_other_subject_is_refused_with_the_reason(tmp_path: Path, message: str, reason: str) -> None:
    code, error = said(tmp_path / "message", message)
    assert code == 1
    assert reason in error


def test_the_hooks_run_the_projects_own_tools() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = {hook["id"]: hook["entry"].split() for hook in repositories[0]["hooks"]}
    assert hooks["lint"] == ["make", "lint"]
    assert (ROOT / hooks["subject"][1]) == SUBJECT


def test_every_package_and_the_chart_have_the_version_of_the_root(versions: ModuleType) -> None:
    packages = [*ROOT.glob("*/*/src")]
    assert len(versions.pages()) == len(packages) + 1
    assert not [path for path, text in versions.pages().items() if path.read_text() != text]


def test_a_new_version_is_written_into_each_of_them_and_nothing_else(versions: ModuleType, tmp_path: Path) -> None:
    for path in (ROOT / "pyproject.toml", *versions.pages()):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    old = versions.version()
    root = tmp_path / "pyproject.toml"
    root.write_text(root.read_text().replace(f'version = "{old}"', 'version = "99.1.2"', 1))
    pages = versions.pages(tmp_path)
    assert len(pages) == len(versions.pages())
    for path, text in pages.items():
        before, after = path.read_text().splitlines(), text.splitlines()
        changed = [new for past, new in zip(before, after, strict=True) if past != new]
        expected = ["version: 99.1.2", "appVersion: 99.1.2"] if path.name == "Chart.yaml" else ['version = "99.1.2"']
        assert changed == expected, path
