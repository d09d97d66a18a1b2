"""Texts that are told apart and were probably meant to be one: they differ by blanks or case only."""

from __future__ import annotations

from collections.abc import Iterable


def near_twins(texts: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of two or more texts that differ by blanks or case only, each group in the order given."""
    groups: dict[str, dict[str, None]] = {}
    for text in texts:
        groups.setdefault("".join(text.split()).casefold(), {})[text] = None
    return [tuple(group) for group in groups.values() if len(group) > 1]


def twins_text(group: tuple[str, ...], shown: int = 5) -> str:
    """Return a group in words, such as ``'yes', ' yes' and 'Yes'``."""
    quoted = [repr(text if len(text) <= 40 else text[:40] + "…") for text in group[:shown]]
    if len(group) > shown:
        quoted.append(f"{len(group) - shown} more")
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
