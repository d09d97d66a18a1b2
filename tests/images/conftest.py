"""What `make test-images` needs, and the images that it builds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import base  # noqa: E402 - found through the line above

ROOT = HERE.parents[1]
LIGHT = ("inference", "model-registry")
NEEDED = ("buildah", "podman", "runc", "debootstrap")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "service" in metafunc.fixturenames:
        metafunc.parametrize("service", os.environ.get("IMAGES", "").split() or LIGHT, scope="session")


@pytest.fixture(scope="session")
def image(service: str) -> str:
    """Build the image of a service as deploy/Dockerfile says and return its name; skipped where a part is missing."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"there is no {', '.join(missing)} on the path")
    try:
        base.ensure()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no base image could be made: {error}")
    name = f"localhost/headrace-{service}:test"
    command = [
        "buildah",
        "bud",
        "--layers",
        "--isolation",
        "chroot",
        "--pull-never",
        "--network",
        "host",
        "--tag",
        name,
    ]
    if authorities := os.environ.get("SSL_CERT_FILE"):
        command += ["--secret", f"id=ca,src={authorities}"]
    command += ["--build-arg", f"SERVICE={service}", "--file", str(ROOT / "deploy" / "Dockerfile"), str(ROOT)]
    base.run(*command)
    return name
