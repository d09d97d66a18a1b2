"""What each service would install: PyTorch for those who learn, for nobody else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from headrace_runtime.services import SERVICES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def uv() -> str:
    own = ROOT / ".tools" / "bin" / "uv"
    found = shutil.which("uv") or (str(own) if own.exists() else None)
    assert found, "uv is there once `make setup` ran"
    return found


def requirements(package: str) -> set[str]:
    command = [uv(), "export", "--package", package, "--no-dev", "--frozen", "--no-hashes", "--no-emit-workspace", "-q"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^([a-z0-9-]+)==", listed, re.MULTILINE))


@pytest.mark.parametrize("service", [name for name, shape in SERVICES.items() if not shape.uses_torch])
def test_a_service_that_does_not_learn_installs_no_torch(service: str) -> None:
    found = requirements(f"headrace-{service}")
    assert "kafka-python" in found
    assert not {name for name in found if name.startswith(("torch", "nvidia", "triton"))}


@pytest.mark.parametrize("service", [name for name, shape in SERVICES.items() if shape.uses_torch])
def test_a_service_that_learns_installs_torch(service: str) -> None:
    assert "torch" in requirements(f"headrace-{service}")


@pytest.mark.parametrize("service", SERVICES)
def test_what_one_family_needs_is_an_extra(service: str) -> None:
    assert "lightgbm" not in requirements(f"headrace-{service}")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_fast_record_layer(service: str) -> None:
    assert {"crc32c", "lz4", "zstandard"} <= requirements(f"headrace-{service}")
