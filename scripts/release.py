"""Makes what a release consists of, in dist/: wheels, the Helm chart, an SBOM for each service and the client.

Nothing is published. Each SBOM is a CycloneDX document that uv writes from uv.lock: names, versions and hashes of all
that the package brings in.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import helm
import setup
import versions

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
CHART = ROOT / "deploy" / "helm" / "headrace"
INSTALLED_ALONE = ("client", *sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml")))
SUMS = "SHA256SUMS"


def problems(version: str, changelog: str) -> Iterator[str]:
    """Yield what keeps this version from being released."""
    if f"## [{version}]" not in changelog:
        yield f"CHANGELOG.md has no section '## [{version}]': expected what *Unreleased* holds there, with a date"
    if stale := [path for path, text in versions.pages().items() if path.read_text() != text]:
        yield "run `make docs`, another version is in " + ", ".join(str(path.relative_to(ROOT)) for path in stale)
    if changed := git("status", "--porcelain"):
        yield f"there are changes that are not committed:\n{changed}"
    if (tags := git("tag", "--points-at", "HEAD").split()) and f"v{version}" not in tags:
        yield f"expected the tag v{version} on this commit, got {', '.join(tags)}"


def git(*arguments: str) -> str:
    """Return what git says; empty where this is no repository."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.rstrip()


def run(command: Sequence[str]) -> str:
    """Return what a command prints; end with what it says when it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    # Archives hold the time of the commit, so that the same commit gives the same bytes.
    environment |= {"SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct") or "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def make(version: str, folder: Path = DIST) -> None:
    """Fill the folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    uv = setup.find_uv()
    run([uv, "build", "--all-packages", "--wheel", "--no-create-gitignore", "--out-dir", str(folder)])
    helm.run(helm.find(), ["package", str(CHART), "--destination", str(folder)])
    for name in INSTALLED_ALONE:
        export = [uv, "export", "--locked", "--no-dev", "--all-extras", "--package", f"headrace-{name}"]
        bill = run([*export, "--format", "cyclonedx1.5", "--preview-features", "sbom-export"])
        (folder / f"headrace-{name}-{version}.cdx.json").write_text(bill)
    made = sorted(folder.iterdir())
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in made]
    (folder / SUMS).write_text("\n".join(sums) + "\n")


def main() -> None:
    """Make the release, and say what is in it and what keeps it from being one."""
    version = versions.version()
    make(version)
    for path in sorted(DIST.iterdir()):
        print(f"{path.stat().st_size / 1024:9.1f} KiB  {path.relative_to(ROOT)}")
    for problem in problems(version, (ROOT / "CHANGELOG.md").read_text()):
        print(f"not ready to be published: {problem}", file=sys.stderr)


if __name__ == "__main__":
    main()
