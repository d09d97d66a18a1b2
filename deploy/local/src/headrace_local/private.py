"""Folders that are their owner's alone."""

from __future__ import annotations

import os
from pathlib import Path

from headrace_local.errors import PlatformError


def make_private(folder: Path) -> None:
    """Make a folder, or take one that is there, and close it to everybody but its owner, who must be this user.

    What lies in it may be secret: records, models, passwords in URLs. Raises PlatformError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = folder.stat().st_uid
    if owner != os.getuid():
        raise PlatformError(f"{folder}: expected a folder of this user ({os.getuid()}), got one of user {owner}")
    folder.chmod(0o700)
