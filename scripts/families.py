"""Installs what `make test-families` needs beside the rest: models and libraries that are too large for every setup."""

from __future__ import annotations

import argparse
import tomllib

import setup

GROUP = "families"


def main() -> None:
    """Install the group from the lock beside the build of PyTorch that is there; take nothing away."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch", choices=sorted(setup.ANNOUNCEMENT), default="pypi", help="which build of PyTorch")
    torch: str = parser.parse_args().torch
    packages = {package["name"]: package for package in tomllib.loads((setup.ROOT / "uv.lock").read_text())["package"]}
    exclusions = [part for name in setup.left_out(torch, packages) for part in ("--no-install-package", name)]
    sync = [setup.find_uv(), "sync", "--locked", "--inexact", "--only-group", GROUP, *exclusions]
    setup.run(sync, UV_PROJECT_ENVIRONMENT=str(setup.ENVIRONMENT))
    if torch != "cuda":
        setup.remove_unused(setup.ENVIRONMENT)


if __name__ == "__main__":
    main()
