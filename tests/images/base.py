"""A base image of Debian and its Python under the name that deploy/Dockerfile gives, where none can be pulled."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "deploy" / "Dockerfile"
PARTS = "python3,python3-pip,python3-venv,ca-certificates"


def name() -> str:
    """Return the base image's name: the default of the argument PYTHON."""
    found = re.search(r"^ARG PYTHON=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def ensure() -> None:
    """Make the base image unless it is there. Raises CalledProcessError."""
    image = name()
    if not run("buildah", "images", "--quiet", "--filter", f"reference={image}"):
        with tempfile.TemporaryDirectory() as folder:
            root, release = Path(folder) / "root", image.rpartition("-")[2]
            run("debootstrap", "--variant=minbase", f"--include={PARTS}", release, str(root))
            (root / "usr" / "bin" / "python").symlink_to("python3")
            for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
                marker.unlink()
            for unneeded in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc"):
                shutil.rmtree(root / unneeded, ignore_errors=True)
            container = run("buildah", "from", "scratch").strip()
            try:
                run("buildah", "copy", container, str(root), "/")
                run("buildah", "commit", container, image)
            finally:
                run("buildah", "rm", container)


def run(*command: str, check: bool = True) -> str:
    """Run a command and return what it prints; what it says of its work goes on to the terminal."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=check)
    return done.stdout.strip()


def both(*command: str) -> str:
    """Run a command that may fail and return all that it prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout
