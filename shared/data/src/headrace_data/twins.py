"""Texts that are told apart and were probably meant to be one: they look alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def near_twins(texts: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of two or more texts that look alike, each group in the order given.

    They differ by blanks, case, characters that nobody sees, such as U+200B, or whether accents are characters of their
    own.
    """
    groups: dict[str, dict[str, None]] = {}
    for text in texts:
        groups.setdefault(_look(text), {})[text] = None
    return [tuple(group) for group in groups.values() if len(group) > 1]


def twins_text(group: tuple[str, ...], shown: int = 5) -> str:
    """Return a group in words, such as ``'yes', ' yes' and 'Yes'``; what could not be told apart is escaped."""
    cut = [text if len(text) <= 40 else text[:40] + "…" for text in group[:shown]]
    quoted = [repr(text) if unicodedata.is_normalized("NFC", text) else ascii(text) for text in cut]
    if len(group) > shown:
        quoted.append(f"{len(group) - shown} more")
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _look(text: str) -> str:
    folded = "".join(text.split()).casefold()
    if folded.isascii():
        return folded
    seen = (character for character in folded if unicodedata.category(character) != "Cf")
    return unicodedata.normalize("NFC", "".join(seen))
