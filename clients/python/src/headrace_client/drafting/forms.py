"""What texts stand for: numbers, booleans and times as people and programs write them.

Each form says two things of a text: what its value is here, while a pipeline is drafted, and the SQL that makes the
same of it in every record to come.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from headrace_client.words import NO, YES
from headrace_client.written_numbers import WHOLE, ways_of

_WHOLE: Final = re.compile(r"[+-]?(0|[1-9]\d{0,17})", re.ASCII)
_DAYS: Final = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y")
_DAYS_IN_WORDS: Final = ("%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y")
_HOURS: Final = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_ISO: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?", re.ASCII)
_ZONE: Final = re.compile(r"[^T ]*[T ].*(Z|[+-]\d{2}:?\d{2})", re.ASCII)
_LEADING_ZERO: Final = re.compile(r"0\d")
_ODD_SHARE: Final = 0.05
_ODD_WORDS: Final = 3
_MOST_ODD: Final = 0.5
_ENOUGH: Final = 20
"""Texts from which on a few of another form are taken for faults, and not for another kind of field."""
_PROBES: Final = 50

_CASE_OF_WORDS: Final = "CASE WHEN lower({{}}) IN ({}) THEN true WHEN lower({{}}) IN ({}) THEN false END"

Value = bool | int | float
Read = Callable[[str], Value | None]


@dataclass(frozen=True)
class Form:
    """How the texts of a field are read."""

    told: str
    """What they are, for a comment."""
    read: Read
    """Returns the value of a text; None where it is none of this form."""
    sql: str
    """The same as SQL, with {} for the text."""
    usual: bool = False
    """Whether records may well have it, so that by itself it is no reason for a SELECT."""
    doubt: str = ""
    """What may be meant otherwise, or cannot be read; empty where nothing is."""
    words: bool = False
    """Whether a few words among such values, however often they come, are none of them: <0.1 and low among numbers."""


def form_of(texts: Mapping[str, int], *, categories: bool, label: bool, time: bool, comma: bool = False) -> Form | None:
    """Return the form of texts, which are counted; None where they have none, or are better left as they are.

    A few of another form become missing, and are told. Whole numbers stay texts where few different ones came, which
    are `categories`; so do words for yes and no in a `label`, but for true and false; moments become numbers in a field
    that is called one, a `time`. `comma` says that decimals stand behind a comma elsewhere in the same source.
    """
    if not texts:
        return None
    probes = sorted(texts)[:: max(1, len(texts) // _PROBES)]
    best: tuple[int, Form, list[str]] | None = None
    for form in _forms(sorted(texts), categories=categories, label=label, time=time, comma=comma):
        if 2 * sum(form.read(text) is None for text in probes) > len(probes):
            continue
        odd = [text for text in texts if form.read(text) is None]
        count = sum(texts[text] for text in odd)
        if count == 0:
            return form
        if best is None or count < best[0]:
            best = count, form, odd
    return _despite(best, texts, label=label) if best else None


def _despite(best: tuple[int, Form, list[str]], texts: Mapping[str, int], *, label: bool) -> Form | None:
    """Return a form that some texts do not have, where these are faults."""
    count, form, odd = best
    total = sum(texts.values())
    few = count <= _ODD_SHARE * total
    words = form.words and not label and len(odd) <= _ODD_WORDS and count <= _MOST_ODD * total
    if total < _ENOUGH or not (few or words):
        return None
    odd.sort(key=lambda text: -texts[text])
    shown = ", ".join(f"'{text}' ({texts[text]})" for text in odd[:_ODD_WORDS])
    more = f" and {len(odd) - _ODD_WORDS} others" if len(odd) > _ODD_WORDS else ""
    doubts = [*filter(None, [form.doubt]), f"{shown}{more} cannot be read so, and become missing"]
    return replace(form, doubt="; ".join(doubts))


def _forms(texts: Sequence[str], *, categories: bool, label: bool, time: bool, comma: bool) -> Iterator[Form]:
    if not any(_LEADING_ZERO.match(text) for text in texts):
        if not categories:
            yield Form("whole numbers as text", _whole, WHOLE, words=True)
        if not all(_WHOLE.fullmatch(text) for text in texts):
            for way in ways_of(texts, comma=comma):
                yield Form(way.told, way.read, way.sql, doubt=way.doubt, words=True)
    yield Form("true or false as text", _words(("true",), ("false",)), _CASE_OF_WORDS.format("'true'", "'false'"))
    if not label and len(texts) > 2:
        # Two spellings are two categories, which learn as well; more are one too many.
        came = {text.lower() for text in texts}
        yes, no = (_quoted([word for word in words if word in came or word in words[:5]]) for words in (YES, NO))
        yield Form("yes or no in several spellings", _words(YES, NO), _CASE_OF_WORDS.format(yes, no))
    if time:
        yield from moments_of(texts)


def moments_of(texts: Sequence[str]) -> Iterator[Form]:
    """Yield the forms of moments that these texts may have, as seconds since 1970."""
    moment = "epoch_us({}) // 1000000"
    zones = sum(_ZONE.fullmatch(text) is not None for text in texts)
    told = "a moment, as seconds since 1970" + ("" if 2 * zones > len(texts) else "; without a zone, taken for UTC")
    yield Form(told, _iso, moment.replace("{}", "TRY_CAST({} AS TIMESTAMPTZ)"), True)
    patterns = [day + hour for day in (*_DAYS, *_DAYS_IN_WORDS) for hour in _HOURS]
    probes = texts[:: max(1, len(texts) // _PROBES)]
    likely = [each for each in patterns if 2 * sum(_timed(each)(text) is not None for text in probes) > len(probes)]
    for pattern in likely:
        other = _swapped(pattern)
        # A text that is no date at all says nothing of the others.
        unsure = other in likely and all(map(_both_or_neither(pattern, other), texts))
        doubt = f"each is a date by {other}, too: which is day and which is month?" if unsure else ""
        sql = moment.replace("{}", f"try_strptime({{}}, '{pattern}')")
        told = f"a moment ({pattern}, taken for UTC), as seconds since 1970"
        yield Form(told, _timed(pattern), sql, doubt=doubt)


def _swapped(pattern: str) -> str:
    """Return a pattern with day and month in each other's place."""
    return pattern.translate(str.maketrans("dm", "md"))


def _both_or_neither(pattern: str, other: str) -> Callable[[str], bool]:
    one, another = _timed(pattern), _timed(other)
    return lambda text: (one(text) is None) == (another(text) is None)


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _words(yes: Sequence[str], no: Sequence[str]) -> Read:
    known = {**dict.fromkeys(yes, True), **dict.fromkeys(no, False)}
    return lambda text: known.get(text.lower())


def _iso(text: str) -> int | None:
    if not _ISO.fullmatch(text):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() // 1)


def _timed(pattern: str) -> Read:
    def read(text: str) -> int | None:
        try:
            return int(datetime.strptime(text, pattern).replace(tzinfo=UTC).timestamp())
        except ValueError:
            return None

    return read
