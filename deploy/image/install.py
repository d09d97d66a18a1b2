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
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import setup  # noqa: E402 - found through the line above

SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml"))
ALSO = {"model-registry": ("headrace-client",)}
"""What an image holds beside its service: the registry's the `headrace` command, for the job that applies pipelines."""
LAUNCHER = '''\
#!{python} -P
"""Runs {package} until it is told to stop."""
import runpy

runpy.run_module("{package}", run_name="__main__", alter_sys=True)
'''


def commands(
    uv: str, service: str, target: Path, torch: str, store: str, index: str = "", extras: Sequence[str] = ()
) -> list[list[str]]:
    """Return what fills the environment: the service and what it needs, with these extras, without tests and tools.

    The lock names files at PyPI. With an index, the same files, by their hashes, are taken from there first; then only
    the project's own packages are left for the sync.
    """
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    packages = {package["name"]: package for package in lock["package"]}
    python = str(Path(sys.executable).resolve())
    chosen = ["--frozen", "--no-dev"]
    for package in (f"headrace-{service}", *ALSO.get(service, ())):
        chosen += ["--package", package]
    chosen += [part for extra in extras for part in ("--extra", extra)]
    if store:
        chosen += ["--package", "headrace-runtime", "--extra", store]
    left_out = setup.left_out(torch, packages)
    sync = [uv, "sync", *chosen, "--no-editable", "--python", python]
    # uv keeps the wheels that it builds, and takes them for current as long as the pyproject.toml is.
    own = [name for name, package in packages.items() if "registry" not in package["source"]]
    sync += [part for name in own for part in ("--refresh-package", name)]
    sync += [part for name in left_out for part in ("--no-install-package", name)]
    found = [sync]
    if index:
        names = str(target.with_name(f"{target.name}-requirements.txt"))
        export = [uv, "export", *chosen, "--no-emit-workspace", "--quiet", "--output-file", names]
        export += [part for name in left_out for part in ("--no-emit-package", name)]
        place = ["--python", str(target), "--default-index", index]
        fill = [uv, "pip", "install", *place, "--no-deps", "--require-hashes", "--requirements", names]
        found = [export, [uv, "venv", "--python", python, str(target)], fill, sync]
    if torch == "cpu" and "torch" in setup.reachable([f"headrace-{service}"], packages):
        build = f"torch=={packages['torch']['version']}"
        found.append([uv, "pip", "install", "--python", str(target), "--torch-backend", torch, build])
    return found


def known_extras(service: str) -> set[str]:
    """Return the extras of a service, by the names of its pyproject.toml."""
    project = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())["project"]
    return set(project.get("optional-dependencies", {}))


def main() -> None:
    """Install, and write the launcher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", choices=SERVICES, required=True)
    parser.add_argument("--target", type=Path, required=True, help="folder of the environment")
    parser.add_argument(
        "--torch", choices=("pypi", "cpu", "cuda"), default="pypi", help="which build of PyTorch, if it is needed"
    )
    parser.add_argument("--store", choices=("", "s3"), default="", help="object store that the service must reach")
    parser.add_argument("--extras", default="", help="extras of the service, separated by commas, such as trees,tune")
    parser.add_argument("--index", default="", help="a mirror of PyPI to take the locked packages from")
    arguments = parser.parse_args()
    extras = [extra for extra in arguments.extras.split(",") if extra]
    if strange := sorted(set(extras) - known_extras(arguments.service)):
        known = ", ".join(sorted(known_extras(arguments.service))) or "none"
        parser.error(f"--extras: expected extras of {arguments.service} ({known}), got {', '.join(strange)}")
    target = arguments.target.absolute()
    environment = os.environ | {"UV_PROJECT_ENVIRONMENT": str(target), "UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("VIRTUAL_ENV", None)
    if arguments.index:
        environment["UV_DEFAULT_INDEX"] = arguments.index
    chosen = (arguments.service, target, arguments.torch, arguments.store, arguments.index, extras)
    for command in commands(setup.find_uv(), *chosen):
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    if arguments.torch != "cuda":
        setup.remove_unused(target)
    launcher = target / "bin" / "headrace-service"
    package = f"headrace_{arguments.service.replace('-', '_')}"
    launcher.write_text(LAUNCHER.format(python=target / "bin" / "python", package=package))
    launcher.chmod(0o755)


if __name__ == "__main__":
    main()
