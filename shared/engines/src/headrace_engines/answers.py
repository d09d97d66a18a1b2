"""What an answer says so far: whole characters of its tokens' bytes, up to a text that ends it."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class AnswerText:
    """The text of one answer, which comes token by token. For one thread."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        """May be the beginning of a stop text."""
        self.is_stopped = False
        """Whether a stop text has come. Nothing comes after it."""

    def add(self, part: bytes, is_last: bool = False) -> str:
        """Return what there is to say after a part: characters that are whole, and begin no stop text."""
        if self.is_stopped:
            return ""
        said = self._held + self._characters.decode(part, is_last)
        ends = [place for text in self._stop if (place := said.find(text)) >= 0]
        if ends:
            self.is_stopped, self._held = True, ""
            return said[: min(ends)]
        kept = 0 if is_last else max((_begun(said, text) for text in self._stop), default=0)
        self._held = said[len(said) - kept :]
        return said[: len(said) - kept]


def _begun(said: str, text: str) -> int:
    """Return how many of the last characters are the first of a text."""
    for size in range(min(len(said), len(text) - 1), 0, -1):
        if said.endswith(text[:size]):
            return size
    return 0
