"""What texts stand for: numbers, booleans and times as people and programs write them, and words for nothing.

Each form says two things of a text: what its value is here, while a pipeline is drafted, and the SQL that makes the
same of it in every record to come.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

NO_TEXT: Final = frozenset(("NA", "N/A", "n/a", "NaN", "null", "NULL", "#N/A"))
"""Words by which producers say that there is no text; a blank one is none anyway."""
NO_NUMBER: Final = NO_TEXT | {"", "na", "nan", "none", "None", "-", "?"}
"""The same where all others are numbers, or something else that is not a text."""
_PLAIN: Final = re.compile(r"[+-]?(\d{1,18}(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?(0|[1-9]\d{0,17})", re.ASCII)
_COMMA: Final = re.compile(r"[+-]?(\d{1,18}|\d{1,3}(\.\d{3})+),\d+|[+-]?\d{1,18}", re.ASCII)
_UNIT: Final = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([^\d\s.,+-][^\d]{0,7})", re.ASCII)
_YES: Final = ("yes", "y", "true", "t", "on")
_NO: Final = ("no", "n", "false", "f", "off")
_TIMES: Final = ("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S")
_ISO: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*(Z|[+-]\d{2}:?\d{2})", re.ASCII)
_LEADING_ZERO: Final = re.compile(r"0\d")

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


def form_of(texts: Sequence[str], *, categories: bool, label: bool, time: bool) -> Form | None:
    """Return the form that all texts have; None where they have none, or are better left as they are.

    Whole numbers stay texts where few different ones came, which are `categories`; so do words for yes and no in a
    `label`, but for true and false; moments become numbers in a field that is called one, a `time`.
    """
    distinct = sorted({text.strip() for text in texts})
    if not distinct:
        return None
    for form in _forms(distinct, categories=categories, label=label, time=time):
        if all(form.read(text) is not None for text in distinct):
            return form
    return None


def _forms(texts: Sequence[str], *, categories: bool, label: bool, time: bool) -> Iterator[Form]:
    if not any(_LEADING_ZERO.match(text) for text in texts):
        if not categories:
            yield Form("whole numbers as text", _whole, "TRY_CAST({} AS BIGINT)")
        if not all(_WHOLE.fullmatch(text) for text in texts):
            yield Form("numbers as text", _number, "TRY_CAST({} AS DOUBLE)")
            yield from _with_commas(texts)
            yield from _with_units(texts)
    yield Form("true or false as text", _words(("true",), ("false",)), _CASE_OF_WORDS.format("'true'", "'false'"))
    if not label and len(texts) > 2:
        # Two spellings are two categories, which learn as well; more are one too many.
        yes, no = (", ".join(f"'{word}'" for word in words) for words in (_YES, _NO))
        yield Form("yes or no in several spellings", _words(_YES, _NO), _CASE_OF_WORDS.format(yes, no))
    if time:
        moment = "epoch_us({}) // 1000000"
        yield Form("a moment, as seconds since 1970", _iso, moment.replace("{}", "TRY_CAST({} AS TIMESTAMPTZ)"), True)
        for pattern in _TIMES:
            sql = moment.replace("{}", f"try_strptime({{}}, '{pattern}')")
            yield Form(f"a moment ({pattern}, taken for UTC), as seconds since 1970", _timed(pattern), sql)


def _with_commas(texts: Sequence[str]) -> Iterator[Form]:
    if any("," in text for text in texts):
        dots = any("." in text for text in texts)
        inner = "replace({}, '.', '')" if dots else "{}"
        yield Form("numbers with a decimal comma", _comma, f"TRY_CAST(replace({inner}, ',', '.') AS DOUBLE)")


def _with_units(texts: Sequence[str]) -> Iterator[Form]:
    match = _UNIT.fullmatch(texts[0])
    if match and "'" not in match[2]:
        unit = match[2].strip()

        def read(text: str) -> float | None:
            found = _UNIT.fullmatch(text)
            return float(found[1]) if found and found[2].strip() == unit else None

        yield Form(f"numbers with the unit {unit}", read, f"TRY_CAST(replace({{}}, '{unit}', '') AS DOUBLE)")


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _number(text: str) -> float | None:
    return float(text) if _PLAIN.fullmatch(text) else None


def _comma(text: str) -> float | None:
    return float(text.replace(".", "").replace(",", ".")) if _COMMA.fullmatch(text) else None


def _words(yes: Sequence[str], no: Sequence[str]) -> Read:
    known = {**dict.fromkeys(yes, True), **dict.fromkeys(no, False)}
    return lambda text: known.get(text.lower())


def _iso(text: str) -> int | None:
    if not _ISO.fullmatch(text):
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp() // 1)
    except ValueError:
        return None


def _timed(pattern: str) -> Read:
    def read(text: str) -> int | None:
        try:
            return int(datetime.strptime(text, pattern).replace(tzinfo=UTC).timestamp())
        except ValueError:
            return None

    return read
