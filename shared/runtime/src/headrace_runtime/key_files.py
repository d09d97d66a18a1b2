"""Keys that are mounted as files: one for each, by its name. They are read where they are used, and stored nowhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace_runtime.errors import Unavailable

KEYS_SETTING: Final = "HEADRACE_PERSONAL_KEYS_DIR"
"""What names the folder with the keys of personal fields."""
LEAST_BYTES: Final = 32
MOST_BYTES: Final = 4096
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """A folder of keys."""

    folder: Path | None
    setting: str
    """What names the folder, for who has to mend it."""

    def key(self, name: str) -> bytes:
        """Return the bytes of a key, without white space at its ends.

        Raises Unavailable where there is none now, or one that is too short: it may be there later.
        """
        if self.folder is None:
            raise Unavailable(f"expected a folder with the key {name!r} as {self.setting}, got none")
        if not _NAME.fullmatch(name):
            raise Unavailable(f"expected the name of a key, a DNS label, got {name!r}")
        try:
            with (self.folder / name).open("rb") as file:
                key = file.read(MOST_BYTES).strip()
        except OSError as error:
            told = f"expected a file {name} in {self.setting}, which cannot be read: {error.strerror}"
            raise Unavailable(told) from error
        if len(key) < LEAST_BYTES:
            told = f"the key {name} in {self.setting}: expected at least {LEAST_BYTES} bytes, got {len(key)}"
            raise Unavailable(told)
        return key
