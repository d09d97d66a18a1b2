"""What each service would install: PyTorch for those who learn, for nobody else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("service", ["ingestion", "preprocessing", "model-registry", "inference"])
def test_a_service_that_does_not_learn_installs_no_torch(service: str) -> None:
    found = requirements(f"headrace-{service}")
    assert "kafka-python" in found
    assert not {name for name in found if name.startswith(("torch", "nvidia", "triton"))}


def test_the_trainer_installs_torch() -> None:
    assert "torch" in requirements("headrace-trainer")


@pytest.mark.parametrize(
    "service", ["ingestion", "preprocessing", "model-registry", "inference", "trainer", "compressor"]
)
def test_every_service_has_the_fast_record_layer(service: str) -> None:
    assert {"crc32c", "lz4", "zstandard"} <= requirements(f"headrace-{service}")
