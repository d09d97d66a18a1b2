"""Installs one service alone, as uv.lock says, into an environment of its own; what an image consists of.

`deploy/Dockerfile` runs it, and the tests run it without Docker. It leaves `bin/headrace-service` in the environment,
which runs the service.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import setup  # noqa: E402 - found through the line above

SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml"))
LAUNCHER = '''\
#!{python} -P
"""Runs {package} until it is told to stop."""
import runpy

runpy.run_module("{package}", run_name="__main__", alter_sys=True)
'''


def commands(uv: str, service: str, target: Path, torch: str, store: str) -> list[list[str]]:
    """Return what fills the environment: the service and what it needs, without tests and tools."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    packages = {package["name"]: package for package in lock["package"]}
    sync = [uv, "sync", "--frozen", "--no-dev", "--no-editable", "--python", str(Path(sys.executable).resolve())]
    # uv keeps the wheels that it builds, and takes them for current as long as the pyproject.toml is.
    own = [name for name, package in packages.items() if "registry" not in package["source"]]
    sync += [part for name in own for part in ("--refresh-package", name)]
    sync += ["--package", f"headrace-{service}"]
    if store:
        sync += ["--package", "headrace-runtime", "--extra", store]
    if torch == "pypi" or "torch" not in setup.reachable([f"headrace-{service}"], packages):
        return [sync]
    exclusions = [
        part for name in ("torch", *setup.only_for_torch(packages)) for part in ("--no-install-package", name)
    ]
    build = f"torch=={packages['torch']['version']}"
    install = [uv, "pip", "install", "--python", str(target), "--torch-backend", torch, build]
    return [[*sync, *exclusions], install]


def main() -> None:
    """Install, and write the launcher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", choices=SERVICES, required=True)
    parser.add_argument("--target", type=Path, required=True, help="folder of the environment")
    parser.add_argument(
        "--torch", choices=("pypi", "cpu"), default="pypi", help="which build of PyTorch, if it is needed"
    )
    parser.add_argument("--store", choices=("", "s3"), default="", help="object store that the service must reach")
    arguments = parser.parse_args()
    target = arguments.target.absolute()
    environment = os.environ | {"UV_PROJECT_ENVIRONMENT": str(target), "UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("VIRTUAL_ENV", None)
    for command in commands(setup.find_uv(), arguments.service, target, arguments.torch, arguments.store):
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    launcher = target / "bin" / "headrace-service"
    package = f"headrace_{arguments.service.replace('-', '_')}"
    launcher.write_text(LAUNCHER.format(python=target / "bin" / "python", package=package))
    launcher.chmod(0o755)


if __name__ == "__main__":
    main()
