"""HTML from Python values: what is no `Html` is text, and is escaped."""

from __future__ import annotations

from html import escape

VOID = frozenset({"meta", "link", "br", "rect", "line", "circle", "path", "polyline"})
"""Elements without an end tag, or that are closed at once."""


class Html(str):
    """Markup that needs no escaping."""

    __slots__ = ()


def element(name: str, /, *children: str | float, **attributes: str | float | None) -> Html:
    """Return an element. `class_` becomes class, other `_` in names become `-`; an attribute of None is left out."""
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not children:
        return Html(f"<{name}{named}/>")
    return Html(f"<{name}{named}>{joined(*children)}</{name}>")


def joined(*children: str | float) -> Html:
    """Return children one after the other; texts are escaped."""
    return Html("".join(child if isinstance(child, Html) else escape(_text(child)) for child in children))


def counted(number: int, noun: str) -> str:
    """Return how many there are of something, such as "1 row" or "1,200 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(time: str | None) -> str:
    """Return an ISO time in UTC as a sentence has it, to the second."""
    return time.replace("T", " ").partition(".")[0] + " UTC" if time else "at an unknown time"


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
