"""Locks the embedded Kafka's jars: resolves jgo.toml, writes jgo.lock.toml beside it. Run after a change of version."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "deploy" / "local" / "src" / "headrace_local"


def main() -> None:
    """Let jgo resolve in a folder of its own, so that no user's cache or configuration has a say."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(PACKAGE / "jgo.toml", folder)
        jgo = [str(Path(sys.executable).with_name("jgo")), "--ignore-config", "--repo-cache", f"{folder}/maven"]
        subprocess.run([*jgo, "--cache-dir", f"{folder}/.jgo", "--quiet", "lock"], cwd=folder, check=True)
        shutil.copy(Path(folder) / "jgo.lock.toml", PACKAGE)
    print(f"wrote {PACKAGE / 'jgo.lock.toml'}")


if __name__ == "__main__":
    main()
