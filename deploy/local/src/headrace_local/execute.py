"""Becomes one process of the platform: reads its command line and environment from a file, then calls exec.

Run by its path, so that it imports nothing but the standard library and costs a few milliseconds. The supervisor's own
configuration stays free of quoting this way, and the process keeps the pid that the supervisor knows.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Replace this process by the one named on the command line: FILE NAME."""
    process = json.loads(Path(sys.argv[1]).read_bytes())[sys.argv[2]]
    environment = {key: value for key, value in os.environ.items() if key not in process["unset"]}
    os.execve(process["command"][0], process["command"], environment | process["environment"])  # noqa: S606


if __name__ == "__main__":
    main()
