"""Other projects that Headrace is measured beside, each in an environment of its own under .tools/bench.

`<name>.in` says what is asked for and `<name>.txt` pins it; the latter is made by
`uv pip compile --python-version 3.11 <name>.in -o <name>.txt`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".tools" / "bench"
PYTHON_VERSION = "3.11"
INSTALL_TIMEOUT_S = 600.0


class Unavailable(Exception):
    """A peer cannot be measured here; the message says why."""


def python(name: str) -> Path:
    """Return the Python of a peer's environment, which is made at its first use. Raises Unavailable."""
    pins = HERE / f"{name}.txt"
    environment = ENVIRONMENTS / name
    made = environment / "pins.sha256"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    interpreter = environment / "bin" / "python"
    if not (made.exists() and made.read_text() == digest):
        uv = _uv()
        _run([uv, "venv", "--quiet", "--clear", "--python", PYTHON_VERSION, str(environment)])
        _run([uv, "pip", "sync", "--quiet", "--python", str(interpreter), str(pins)])
        made.write_text(digest)
    return interpreter


def _uv() -> str:
    own = ROOT / ".tools" / "bin" / "uv"
    uv = shutil.which("uv") or (str(own) if own.is_file() else None)
    if uv is None:
        raise Unavailable("there is no uv to install it with")
    return uv


def _run(command: list[str]) -> None:
    # The environment that runs the benchmarks must not be the one that is changed.
    outside = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        done = subprocess.run(command, env=outside, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it gave no reason"]
        raise Unavailable(f"installing it failed: {said[-1]}")
