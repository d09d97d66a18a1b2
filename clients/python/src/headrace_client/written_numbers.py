"""Numbers as people and programs write them: with decimal commas, grouped digits, units and currencies, signs behind.

A way of writing is a list of replacements that make a plain number of a text. They are applied here and, as SQL, to
every record to come, so that both come to the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

PLAIN: Final = re.compile(r"[+-]?(\d{1,18}(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
WHOLE: Final = "TRY_CAST(regexp_extract({}, '^ *([+-]?[0-9]+)([.]0*)? *$', 1) AS BIGINT)"
"""SQL of a whole number, with {} for its text: a cast alone would make 2 of 1.5, and 31 of 0x1F."""
_MINUS: Final = "\u2212"
"""As typographers write it."""
_SPACES: Final = " \u00a0\u202f\u2009"
_WAYS: Final = (
    (".", ""),
    (".", ","),
    (",", ""),
    (",", "."),
    (".", "'"),
    (".", "\u2019"),
    (",", _SPACES),
    (".", _SPACES),
)
"""What stands before decimals, and what divides digits in groups of three."""
_CODES: Final = (
    "AED ARS AUD BGN BRL CAD CHF CLP CNY CZK DKK EUR GBP HKD HUF IDR ILS INR JPY KRW MXN MYR NOK NZD PLN RON RUB SAR "
    "SEK SGD THB TRY TWD UAH USD VND ZAR Rs Rs. kr kr. Fr. R$ US$ A$ C$ z\u0142 "
)
"""What money is called, each with a blank behind it."""
_BESIDE: Final = re.compile(
    r"[(+\u2212-]?\s*(?P<before>[^\d\s.,+()\u2212'-][^\d\s,+()\u2212'-]{0,3})?\s*[+\u2212-]?\s*"
    r"(?:\d[\d.,'\u2019\s]*|[.,]\d+)(?:[eE][+-]?\d{1,2})?\s*(?P<behind>[^\d\s.,+()\u2212'-][^\d()']{0,7}?)?\s*[)-]?",
)
_SCALES: Final = frozenset(("%", "\u2030", "k", "K", "M", "B", "bn", "mn", "Mio", "Mio.", "Mrd", "Mrd.", "Tsd", "Tsd."))
"""What multiplies the number before it: beside one without it, that is of another size."""
_THOUSAND: Final = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}", re.ASCII)
_LONGEST: Final = 64
"""Most letters of a text that is looked at: of a longer one the time would grow with more than its length."""
_LOOKED_AT: Final = 200
_FEWEST: Final = 0.1
"""Least share of numbers that have a unit, for it to be one of theirs."""


@dataclass(frozen=True)
class Written:
    """A way in which numbers are written."""

    told: str
    """What it is, for a comment."""
    doubt: str
    """What may be meant otherwise; empty where nothing may."""
    form: re.Pattern[str]
    """What such a text looks like."""
    steps: tuple[tuple[str, str], ...]
    """What is replaced by what, in order."""
    minus_behind: bool
    """Whether some have their minus behind them."""

    def read(self, text: str) -> float | None:
        """Return the number of a text without blanks around it; None for a text that is not written so."""
        if len(text) > _LONGEST or not self.form.fullmatch(text):
            return None
        for old, new in self.steps:
            text = text.replace(old, new)
        text = text.strip()
        if self.minus_behind and text.endswith("-"):
            text = f"-{text[:-1]}"
        return float(text) if PLAIN.fullmatch(text) else None

    def may_divide(self, plain: str) -> bool:
        """Tell whether a plain number may be a thousand beside numbers that are written so: 1.234 beside 1,5."""
        return (",", ".") in self.steps and _THOUSAND.fullmatch(plain) is not None

    @property
    def sql(self) -> str:
        """The same as SQL, with {} for the text."""
        return f"TRY_CAST({self.inner} AS DOUBLE)"

    @property
    def inner_beside_plain(self) -> str:
        """SQL of a plain number's text, where some are plain already: a dot of theirs divides no thousands."""
        if (".", "") not in self.steps:
            return self.inner
        return f"CASE WHEN contains({{}}, ',') THEN {self.inner} ELSE {{}} END"

    @property
    def inner(self) -> str:
        """SQL of a plain number's text, with {} for the text."""
        inner = "{}"
        for old, new in self.steps:
            inner = f"replace({inner}, {_literal(old)}, '{new}')"
        if self.minus_behind:
            inner = f"regexp_replace(trim({inner}), '^(.*)-$', '-\\1')"
        return inner


def ways_of(texts: Sequence[str], *, comma: bool = False) -> Iterator[Written]:
    """Yield ways in which these numbers may be written, the likelier first.

    `comma` says that decimals stand behind a comma elsewhere in the same source, so that `1.234` is a thousand.
    """
    texts = [text for text in texts if len(text) <= _LONGEST]
    before, behind = _beside(texts[:_LOOKED_AT])
    letters = {letter for text in texts for letter in text}
    for decimal, groups in sorted(_WAYS, key=lambda way: comma and way[0] == "."):
        divided = [letter for letter in groups if letter in letters]
        if (groups and not divided) or (decimal == "," and decimal not in letters and "." not in divided):
            continue
        if not groups and comma and decimal == "." and "." in letters:
            continue
        yield _way(texts, letters, (decimal, divided), (before, behind))


def _way(texts: Sequence[str], letters: set[str], way: tuple[str, Sequence[str]], beside: tuple[str, str]) -> Written:
    decimal, groups = way
    before, behind = beside
    steps = [(each, "") for each in (behind, before) if each]
    steps += [(space, "") for space in _SPACES[1:] if space in letters]
    inner = any(re.search(r"[\d+\u2212-]\s+\d", text) for text in texts)
    steps += [(" ", "")] if inner and " " in letters else []
    steps += [(group, "") for group in groups if group not in _SPACES]
    steps += [(",", ".")] if decimal == "," and "," in letters else []
    steps += [(_MINUS, "-")] if _MINUS in letters else []
    steps += [("(", "-"), (")", "")] if "(" in letters else []
    form = _form(decimal, groups, before, behind)
    told = "numbers as text" if decimal == "." else "numbers with a decimal comma"
    doubt = ""
    if groups:
        told += f", {_named(groups)} between thousands"
        both = any(decimal in text or sum(text.count(each) for each in groups) > 1 for text in texts)
        if not both and groups[0] in ".,":
            doubt = f"1{groups[0]}234 is taken for a thousand, and not for less than two"
    if behind in _SCALES and (bare := next((text for text in texts if behind not in text), "")):
        doubt = f"{bare} has no {behind}, and is taken for as much as if it had"
    units = " and ".join(each for each in (before, behind) if each)
    told += f", with the unit {units}" if units else ""
    minus_behind = any(text.endswith("-") and text[:-1].strip() for text in texts)
    return Written(told, doubt, form, tuple(steps), minus_behind)


def _form(decimal: str, groups: Sequence[str], before: str, behind: str) -> re.Pattern[str]:
    point = re.escape(decimal)
    whole = r"\d{1,18}"
    if groups:
        divider = f"[{re.escape(''.join(groups))}]"
        # A thousand has no nought before it: 0,125 is an eighth.
        whole = rf"(?:(?!0{divider})\d{{1,3}}(?:{divider}\d{{3}})+|\d{{1,18}})"
    number = rf"(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d{{1,2}})?"
    first, last = (rf"(?:{re.escape(each)})?" if each else "" for each in (before, behind))
    signed = rf"[+{_MINUS}-]?\s*{first}\s*[+{_MINUS}-]?\s*{number}\s*{last}"
    return re.compile(rf"{signed}|\(\s*{first}\s*{number}\s*{last}\s*\)|{first}\s*{number}\s*{last}\s*-")


def _beside(texts: Iterable[str]) -> tuple[str, str]:
    """Return what stands before and behind most numbers that have something there: currencies, and units."""
    found = [match for text in texts if (match := _BESIDE.fullmatch(text))]
    before = Counter(text for each in found if (text := each["before"]) and _is_currency(text))
    behind = Counter(text.strip() for each in found if (text := each["behind"]) and text.isprintable())
    return _most(before, len(found)), _most(behind, len(found))


def _most(counts: Counter[str], of: int) -> str:
    """Return what is there most often; nothing where few have it."""
    text, count = counts.most_common(1)[0] if counts else ("", 0)
    return text if _FEWEST * of <= count else ""


def _is_currency(text: str) -> bool:
    """Tell whether a text is money's: other letters before digits make names, such as k17."""
    return f"{text} " in _CODES or all(unicodedata.category(letter) == "Sc" for letter in text)


def _literal(text: str) -> str:
    """Return a text as SQL writes it: a blank that nobody can tell from another by its number."""
    return f"chr({ord(text)})" if text in _SPACES[1:] else "'" + text.replace("'", "''") + "'"


def _named(groups: Sequence[str]) -> str:
    names: dict[str, str] = {",": "commas", ".": "dots", "'": "apostrophes", "\u2019": "apostrophes"}
    return names.get(groups[0], "blanks")
