"""`python -m headrace_local` fetches and makes what the embedded platform starts from, so that no start need."""

from __future__ import annotations

import sys

from headrace_runtime.errors import HeadraceError
from headrace_runtime.settings import load_settings

from headrace_local.classes import ensure_class_cache
from headrace_local.errors import StartFailed
from headrace_local.jars import jar_cache
from headrace_local.settings import PlatformSettings


def main() -> int:
    """Fetch Kafka's jars into the cache; print what is missing and return 1 when that fails.

    What Java keeps of them is written too. Where that fails it is told, and a broker starts all the same.
    """
    try:
        class_path = jar_cache(load_settings(PlatformSettings)).class_path(lambda line: print(line, flush=True))  # noqa: T201
    except HeadraceError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    try:
        ensure_class_cache(class_path)
    except (StartFailed, OSError) as error:
        print(f"Kafka will start slowly: {error}", file=sys.stderr)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
