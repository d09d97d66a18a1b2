"""Runs tests with several versions of Python, each in an environment of its own under .tools.

    python scripts/matrix.py 3.11 3.13 -- -m "not contract"

uv finds each Python on this machine, or fetches it where it can. What follows `--` goes to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys

import setup


def passes(uv: str, version: str, arguments: list[str]) -> bool:
    """Fill the environment of one Python from the lock, and tell whether the tests pass in it."""
    environment = setup.TOOLS / f"python-{version}"
    variables = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    variables |= {"UV_PROJECT_ENVIRONMENT": str(environment)}
    sync = [uv, "sync", "--locked", "--all-packages", "--quiet", "--python", version]
    test = [str(environment / "bin" / "pytest"), "--numprocesses", "2", *arguments]
    setup.say(f"Python {version}")
    return all(
        subprocess.run(each, cwd=setup.ROOT, env=variables, check=False).returncode == 0 for each in (sync, test)
    )


def main() -> None:
    """Test with every Python, whatever the others say, and name those that failed."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    chosen, arguments = sys.argv[1:end], sys.argv[end + 1 :]
    uv = setup.find_uv()
    failed = [version for version in chosen if not passes(uv, version, arguments)]
    if failed:
        sys.exit(f"failed with Python {', '.join(failed)}")


if __name__ == "__main__":
    main()
