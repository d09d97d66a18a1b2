"""Helm for the chart: the one on the path when it is the pinned version, else one built by Go into the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

VERSION = "v4.3.1"
PACKAGE = f"helm.sh/helm/v4/cmd/helm@{VERSION}"
VERSION_VARIABLE = "helm.sh/helm/v4/internal/version.version"
QUICK_GO = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath -gcflags=all=-l", "GOGC": "400"}
"""Go's environment for programs that run for a moment: without inlining, and with rarer garbage collection, it compiles
in two thirds of the time."""
RELEASE = ("headrace", "--namespace", "headrace")
"""What the examples are rendered as."""


class HelmMissing(Exception):
    """There is no Helm, and none could be built; says why."""


class HelmRefused(Exception):
    """Helm ended with an error; its text is what Helm said."""


def find() -> Path:
    """Return a Helm of the pinned version, building it when there is none: some two minutes, once for each user.

    Raises HelmMissing.
    """
    cached = _cache() / f"helm-{VERSION}"
    for candidate in (shutil.which("helm"), str(cached)):
        if candidate and _version(candidate) == VERSION:
            return Path(candidate)
    return _build(cached)


def run(helm: Path, arguments: Sequence[str]) -> str:
    """Return what Helm prints. Raises HelmRefused."""
    done = subprocess.run([str(helm), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HelmRefused(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headrace"


def _version(helm: str) -> str | None:
    try:
        done = subprocess.run(
            [helm, "version", "--template", "{{.Version}}"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def _build(target: Path) -> Path:
    go = shutil.which("go")
    if go is None:
        raise HelmMissing(f"there is no helm {VERSION}, and no Go to build it with")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        environment = os.environ | {"GOBIN": folder, **QUICK_GO}
        flags = f"-ldflags=-s -w -X {VERSION_VARIABLE}={VERSION}"
        # It takes minutes of all cores, and whatever else runs must not wait for it.
        nice = shutil.which("nice")
        command = [*((nice,) if nice else ()), go, "install", flags, PACKAGE]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            raise HelmMissing(f"there is no helm {VERSION}, and Go could not build it: {reason}")
        (Path(folder) / "helm").replace(target)
    return target
