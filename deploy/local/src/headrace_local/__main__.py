"""`python -m headrace_local` fetches what the embedded platform is made of, so that its first start need not."""

from __future__ import annotations

import sys

from headrace_runtime.errors import HeadraceError
from headrace_runtime.settings import load_settings

from headrace_local import ahead
from headrace_local.jars import jar_cache
from headrace_local.settings import PlatformSettings


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201


def main() -> int:
    """Fetch Kafka's jars into the cache and run it once; print what is missing and return 1 when that fails."""
    try:
        ahead.make(jar_cache(load_settings(PlatformSettings)).class_path(say), say)
    except HeadraceError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
