"""Runs tests with several versions of Python, each in an environment of its own under .tools.

    python scripts/matrix.py --torch pypi 3.11 3.13 -- -m "not contract"

uv finds each Python on this machine, or fetches it where it can. What follows `--` goes to pytest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import setup


def passes(version: str, torch: str, arguments: list[str]) -> bool:
    """Fill the environment of one Python as setup does, and tell whether the tests pass in it."""
    environment = setup.TOOLS / f"python-{version}"
    setup.say(f"Python {version}")
    try:
        setup.fill(environment, version, torch)
        setup.run([str(environment / "bin" / "pytest"), "--numprocesses", "2", *arguments])
    except subprocess.CalledProcessError:
        return False
    return True


def main() -> None:
    """Test with every Python, whatever the others say, and name those that failed."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", choices=sorted(setup.ANNOUNCEMENT), default="pypi", help="which build of PyTorch")
    parser.add_argument("versions", nargs="+", help="of Python")
    chosen = parser.parse_args(sys.argv[1:end])
    failed = [version for version in chosen.versions if not passes(version, chosen.torch, sys.argv[end + 1 :])]
    if failed:
        sys.exit(f"failed with Python {', '.join(failed)}")


if __name__ == "__main__":
    main()
