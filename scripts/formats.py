"""Installs what `make test-formats` needs: the schema registry Apicurio (0.1 GB, fetched once), and foreign producers.

Both lie under .tools: the registry as its archive has it, the producers in an environment of their own.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from pathlib import Path

import setup

REGISTRY = setup.TOOLS / "apicurio"
PRODUCERS = setup.TOOLS / "formats"
GROUP, ARTIFACT, VERSION = "io.apicurio", "apicurio-registry-app", "3.0.9"
SHA256 = "2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43"


def main() -> None:
    """Make both where they are missing."""
    if not (REGISTRY / VERSION).is_file():
        _fetch_registry()
    sync = [setup.find_uv(), "sync", "--locked", "--quiet", "--only-group", "formats"]
    sync += ["--project", str(setup.ROOT / "tests" / "foreign"), "--python", str(Path(sys.executable).resolve())]
    setup.run(sync, UV_PROJECT_ENVIRONMENT=str(PRODUCERS))


def _fetch_registry() -> None:
    # The embedded platform's way to Maven Central.
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=setup.TOOLS / "maven", timeout=300)
    component = context.project(GROUP, ARTIFACT).at_version(VERSION)
    archive = Path(component.artifact("all", "tar.gz").resolve())
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        archive.unlink()
        sys.exit(f"{archive.name}: expected sha256 {SHA256}, got {found}")
    REGISTRY.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as opened:
        opened.extractall(REGISTRY, filter="data")
    archive.unlink()
    (REGISTRY / VERSION).touch()


if __name__ == "__main__":
    main()
