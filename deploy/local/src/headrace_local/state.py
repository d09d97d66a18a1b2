"""The state file of a platform: what runs in a home, and whether it still does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace_local.errors import PlatformError
from headrace_local.supervision import marked

STATE_FILE = "platform.json"


def read(home: Path) -> dict[str, Any] | None:
    """Return what a platform wrote into its home, None when there is nothing. Raises PlatformError."""
    try:
        state: dict[str, Any] = json.loads((home / STATE_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise PlatformError(f"{home / STATE_FILE} is not what a platform wrote: {error}; remove it") from error
    return state


def write(home: Path, state: Mapping[str, Any]) -> None:
    """Replace the state file in one step; it may hold passwords in URLs, so it is its owner's alone."""
    partial = home / f"{STATE_FILE}.partial"
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(state, indent=2) + "\n")
    partial.replace(home / STATE_FILE)


def is_alive(state: Mapping[str, Any]) -> bool:
    """Tell whether the supervisor of a state lives: its pid may belong to another process by now."""
    return any(process.pid == state["supervisor_pid"] for process in marked(state["id"]))
