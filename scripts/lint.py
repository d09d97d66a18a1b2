"""Runs every check that needs no test: style, types, contracts, generated files. Names what failed at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PACKAGES = "*/*/src/headrace_*"
PROGRAMS = ("benchmarks",)
TESTS = ("*/*/tests", "tests/*/")
FIXTURES = ("conftest.py", "tests/*.py")
"""What tests share. They are checked by themselves: a module of the registry's tests may have the name of one."""
SOURCES = ("*/*/src", "services/model-registry")
"""Folders from which modules have their names. That of the registry is none by itself, as it has a hyphen."""
PROGRAMS_OF_TESTS = (
    "tests/chaos",
    "tests/cluster",
    "tests/days",
    "tests/families",
    "tests/foreign",
    "tests/formats",
    "tests/images",
    "tests/lm",
    "tests/siege",
    "tests/upstream",
    "scripts",
)
"""Folders whose modules import each other by name."""
EXAMPLES = "examples/*"
"""Each example by itself: two of them may have a module of the same name."""


def checks() -> list[tuple[str, list[str]]]:
    """Return name and command line of each check."""
    packages = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(PACKAGES) if path.is_dir())
    tests, fixtures = found_by(TESTS), found_by(FIXTURES)
    # One cache for all of it: a second one would be filled with the same libraries and packages again.
    types = [tool("mypy"), "--no-error-summary", "--explicit-package-bases"]
    programs = [name for name in PROGRAMS if any((ROOT / name).rglob("*.py"))]
    found = [
        ("style", [tool("ruff"), "check", "--quiet"]),
        ("format", [tool("ruff"), "format", "--check", "--quiet"]),
        ("types", [*types, *packages, *programs, *tests]),
        ("types of fixtures", [*types, *fixtures]),
        ("contracts", [tool("buf"), "lint"]),
        ("generated contracts", [sys.executable, "scripts/generate_protos.py", "--check"]),
        ("generated documents", [sys.executable, "scripts/generate_docs.py", "--check"]),
        # Beside the types, which take one processor: else every process of the tests compiles all that they import.
        ("tests can be read", [tool("pytest"), "--collect-only", "-q"]),
    ]
    for example in sorted(path for path in ROOT.glob(EXAMPLES) if any(path.glob("*.py"))):
        name = str(example.relative_to(ROOT))
        found.append((f"types of {name}", [tool("mypy"), "--no-error-summary", name]))
    if earlier := released_contracts():
        found.append(
            (f"contracts against {earlier[:12]}", [tool("buf"), "breaking", "--against", f".git#ref={earlier}"])
        )
    return found


def found_by(patterns: Sequence[str]) -> list[str]:
    """Return what fits patterns, relative to the repository."""
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


def tool(name: str) -> str:
    """Return the path of a tool of the environment that runs this."""
    return str(BIN / name)


def released_contracts() -> str | None:
    """Return the revision that contracts must stay compatible with: the last tag, or the first commit with protos."""
    if tag := git("describe", "--tags", "--abbrev=0"):
        return tag
    commits = git("log", "--reverse", "--format=%H", "--diff-filter=A", "--", "protos/headrace")
    return commits.splitlines()[0] if commits else None


def git(*arguments: str) -> str:
    """Return what git says; empty when this is no repository or git is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def passes(name: str, command: Sequence[str]) -> bool:
    """Run one check, print its name, time and what it has to say, and tell whether it passed."""
    began = time.monotonic()
    # The compiler of the contracts looks for its plugins on the path.
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "MYPYPATH": os.pathsep.join((*found_by(SOURCES), *PROGRAMS_OF_TESTS)),
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    verdict = "passed" if done.returncode == 0 else "FAILED"
    said = f"\n{done.stdout}{done.stderr}" if done.returncode else ""
    print(f"{name:<36} {verdict} {time.monotonic() - began:6.1f} s{said}", flush=True)
    return done.returncode == 0


def lanes() -> list[list[tuple[str, list[str]]]]:
    """Return the checks in two lists of about the same length; those of one mypy cache are in the same one."""
    own = [check for check in checks() if check[0].startswith("types")]
    return [own, [check for check in checks() if check not in own]]


def failures(lane: Sequence[tuple[str, list[str]]]) -> list[str]:
    """Run checks one after another, whatever the others say, and return the names of those that failed."""
    return [name for name, command in lane if not passes(name, command)]


def main() -> None:
    """Run both lists of checks at the same time."""
    with ThreadPoolExecutor() as pool:
        failed = [name for found in pool.map(failures, lanes()) for name in found]
    if failed:
        sys.exit(f"lint failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
