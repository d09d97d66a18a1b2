"""What `make release` makes: a wheel of every package, the chart, and an SBOM of each that is installed alone."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from headrace_runtime.services import SERVICES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def release(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("release")


@pytest.fixture(scope="module")
def dist(release: ModuleType, helm: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the working tree."""
    del helm  # skips where there is none
    folder: Path = tmp_path_factory.mktemp("release") / "dist"
    release.make(release.versions.version(), folder)
    return folder


def test_every_package_has_a_wheel(release: ModuleType, dist: Path) -> None:
    folders = [path.parent for path in ROOT.glob("*/*/pyproject.toml") if path.parent.name != "foreign"]
    wheels = {path.name: path for path in dist.glob("*.whl")}
    assert len(wheels) == len(folders)
    for folder in folders:
        (module,) = (path.name for path in (folder / "src").iterdir() if path.name.startswith("headrace"))
        package = "headrace_contracts" if module == "headrace" else module
        names = zipfile.ZipFile(wheels[f"{package}-{release.versions.version()}-py3-none-any.whl"]).namelist()
        assert any(name.startswith(f"{module}/") and name.endswith(".py") for name in names)


def test_the_chart_is_packed_with_its_schema(release: ModuleType, dist: Path) -> None:
    with tarfile.open(dist / f"headrace-{release.versions.version()}.tgz") as package:
        assert {"headrace/Chart.yaml", "headrace/values.schema.json", "headrace/files/topics.json"} <= set(
            package.getnames()
        )


def test_each_sbom_names_what_is_installed_with_its_hash(release: ModuleType, dist: Path) -> None:
    bills: dict[str, dict[str, Any]] = {
        name: json.loads((dist / f"headrace-{name}-{release.versions.version()}.cdx.json").read_text())
        for name in release.INSTALLED_ALONE
    }
    found = {name: {each["name"] for each in bill["components"]} for name, bill in bills.items()}
    assert {bill["bomFormat"] for bill in bills.values()} == {"CycloneDX"}
    assert all({"kafka-python", "headrace-contracts"} <= names for names in found.values())
    # With every extra; that of the client with which models are imported tries them.
    learners = {"client"} | {name for name, shape in SERVICES.items() if shape.uses_torch}
    assert {name for name, names in found.items() if "torch" in names} == learners
    assert not {"pytest", "ruff"} & set().union(*found.values())
    (kafka,) = (each for each in bills["ingestion"]["components"] if each["name"] == "kafka-python")
    assert kafka["purl"].startswith("pkg:pypi/kafka-python@")
    assert {code["alg"] for each in kafka["externalReferences"] for code in each["hashes"]} == {"SHA-256"}


def test_the_sums_are_of_all_files(release: ModuleType, dist: Path) -> None:
    lines = (dist / release.SUMS).read_text().splitlines()
    assert lines == [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
        for path in sorted(dist.iterdir())
        if path.name != release.SUMS
    ]


def test_a_version_without_its_section_in_the_changelog_is_not_ready(release: ModuleType) -> None:
    assert any("no section '## [7.8.9]'" in each for each in release.problems("7.8.9", "## [Unreleased]\n"))
    assert not any("no section" in each for each in release.problems("7.8.9", "## [7.8.9] - 2030-01-01\n"))
