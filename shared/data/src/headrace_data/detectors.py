"""Personal data in texts: where it is, and texts with a placeholder such as `[email]` in its place.

What is found is what its form tells: addresses, and numbers with a check digit. Names, dates of birth and the like are
not. Time grows with the length of a text and with nothing else: every repetition of an expression is bounded, and each
begins where a word does.

Masking a text once more changes nothing: a placeholder is never found, and nothing is found because of one beside it.
For what is found ends with a letter or digit that none follows, and begins with one that none precedes, or with a sign
that may follow one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Kind:
    """One kind of personal data."""

    hint: str
    """An expression (RE2, which takes linear time) that every text with it in it matches."""
    begins: re.Pattern[str]
    """Matches nothing at all wherever one may begin; its first group is the longest that one there may be."""
    end: Callable[[str, int, int], int]
    """Returns where one ends that begins there in a text and ends by there at the latest; 0 when there is none."""

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where each begins and ends, from left to right; none overlaps another."""
        behind = 0
        for match in self.begins.finditer(text):
            if match.start() >= behind and (end := self.end(text, match.start(), match.end(1))):
                behind = end
                yield match.start(), end


def _as_matched(text: str, start: int, end: int) -> int:
    return end


def _ends_word(text: str, end: int) -> bool:
    return end == len(text) or not (text[end].isalnum() or text[end] == "_")


def _end_of_card(text: str, start: int, end: int) -> int:
    """Find 13 to 19 digits with a check digit by Luhn (ISO/IEC 7812-1, annex B): the most of them that have one."""
    digits = [int(each) for each in text[start:end] if each.isdigit()]
    for last in range(end, start, -1):
        if not text[last - 1].isdigit():
            continue
        if len(digits) < 13:
            return 0
        if _ends_word(text, last) and _luhn(digits):
            return last
        digits.pop()
    return 0


def _luhn(digits: list[int]) -> bool:
    doubled = sum(2 * each - 9 * (each > 4) for each in digits[-2::-2])
    return (sum(digits[::-2]) + doubled) % 10 == 0


def _end_of_iban(text: str, start: int, end: int) -> int:
    """Find as many letters and digits as the country's have, with two check digits by mod 97 (ISO 13616-1)."""
    wanted, last = _IBAN_LENGTHS.get(text[start : start + 2].upper(), 0), start
    account = ""
    while len(account) < wanted and last < end:
        account += text[last].strip()
        last += 1
    if not wanted or len(account) < wanted or not _ends_word(text, last):
        return 0
    return last if int("".join(str(int(each, 36)) for each in account[4:] + account[:4])) % 97 == 1 else 0


_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
"""How many letters and digits an IBAN has, by country: SWIFT's registry of IBANs, release 99."""


def _end_of_ip(text: str, start: int, end: int) -> int:
    """Find an address of IPv4, or one of IPv6 with seven characters or more: `a::b` is code."""
    if end - start > 2 and text[end - 1] == ":" and text[end - 2] != ":":
        if text[end : end + 1].strip():
            return 0
        end -= 1  # a colon behind an address is none of it
    found = text[start:end]
    if not _ends_word(text, end) or (":" in found and len(found) < 7) or found[-1] == ":":
        return 0
    try:
        ipaddress.ip_address(found)
    except ValueError:
        return 0
    return end


_BYTE: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_NO_DATE: Final = r"(?![0-9]{1,2}[ ./-][0-9]{1,2}[ ./-](?:19|20)[0-9]{2}(?![0-9]))"

PERSONAL: Final[Mapping[str, Kind]] = {
    "email": Kind(
        "@",
        re.compile(r"(?<!\w)(?=(\w[\w.%+-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w-])))"),
        _as_matched,
    ),
    "iban": Kind(
        "[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){11}",
        re.compile(r"(?<!\w)(?=([A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){11,29}))"),
        _end_of_iban,
    ),
    "card": Kind(
        "[2-6][0-9]{3}(?:[ -]?[0-9]){9}",
        re.compile(r"(?<![\w.,])(?=([2-6][0-9]{3}(?:[ -]?[0-9]){9,15}))"),
        _end_of_card,
    ),
    "ip": Kind(
        r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]*:",
        re.compile(
            rf"(?<![\w.:])(?!(?<=\]):)(?=((?:{_BYTE}\.){{3}}{_BYTE}(?!\w)"
            r"|[0-9A-Fa-f:]{2,39}(?![0-9A-Fa-f:])(?:(?<=[0-9])(?:\.[0-9]{1,3}){1,3}(?![0-9]))?))"
        ),
        _end_of_ip,
    ),
    "phone": Kind(
        "[+(0-9](?:[ .()/-]{0,2}[0-9]){7}",
        re.compile(
            r"(?=(\+(?:[ .()/-]{0,2}[0-9]){8,15}(?!\w)"
            r"|\(0[0-9]{1,4}\)(?:[ ./-]?[0-9]){6,10}(?!\w)"
            r"|\([2-9][0-9]{2}\) ?[2-9][0-9]{2}[ .-][0-9]{4}(?!\w)"
            rf"|(?<![\w.,/-]){_NO_DATE}0[0-9](?:[ ./-]?[0-9]){{6,11}}(?!\w)"
            r"|(?<![\w.,/-])(?:1[ .-])?[2-9][0-9]{2}[ .-][2-9][0-9]{2}[ .-][0-9]{4}(?!\w)))"
        ),
        _as_matched,
    ),
    "secret": Kind(
        r"(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_|glpat-|npm_|hf_|xox[abprs]-|sk[-_]|AIza|eyJ",
        re.compile(
            r"(?<![\w-])(?=((?:(?:AKIA|ASIA)[0-9A-Z]{16}"
            r"|gh[pousr]_[A-Za-z0-9]{36,255}"
            r"|github_pat_[A-Za-z0-9_]{21,254}[A-Za-z0-9]"
            r"|npm_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{30,64}"
            r"|(?:glpat|xox[abprs])-[A-Za-z0-9_-]{10,254}[A-Za-z0-9]"
            r"|sk_(?:live|test)_[A-Za-z0-9]{16,255}|sk-[A-Za-z0-9_-]{20,254}[A-Za-z0-9]"
            r"|AIza[A-Za-z0-9_-]{34}[A-Za-z0-9]"
            r"|eyJ[A-Za-z0-9_-]{8,2048}\.eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,1023}[A-Za-z0-9])(?![\w-])))"
        ),
        _as_matched,
    ),
}
"""The kinds, in the order in which they are looked for: what is one is no other one."""


def masked_text(text: str, kinds: Iterable[str]) -> str:
    """Return a text with a placeholder in the place of all that is of these kinds.

    It is at most a sixth longer than it was: the shortest that is found, of an email, has six characters.
    """
    wanted = set(kinds)
    for name, kind in PERSONAL.items():
        if name in wanted:
            text, _ = _replaced(text, name, kind)
    return text


def found_in(texts: pa.Array) -> dict[str, int]:
    """Return how many of some texts hold personal data, by kind; kinds of which there is none are left out."""
    found = dict[str, int]()
    for name, kind in PERSONAL.items():
        rows = hinted_rows(texts, kind)
        if count := sum(next(kind.spans(texts[row].as_py()), None) is not None for row in rows):
            found[name] = count
    return found


def _replaced(text: str, name: str, kind: Kind) -> tuple[str, int]:
    pieces, count, behind = [], 0, 0
    for start, end in kind.spans(text):
        pieces += [text[behind:start], f"[{name}]"]
        count, behind = count + 1, end
    return "".join([*pieces, text[behind:]]) if count else text, count


def hinted_rows(texts: pa.Array, kind: Kind) -> list[int]:
    """Return the rows whose texts may have one of a kind."""
    hits = pc.fill_null(pc.match_substring_regex(texts, kind.hint), False)
    rows: list[int] = np.flatnonzero(hits.to_numpy(zero_copy_only=False)).tolist()
    return rows


def masked_column(texts: pa.Array, name: str) -> tuple[pa.Array, int]:
    """Return texts with a placeholder in the place of all that is of a kind, and how many there are."""
    kind = PERSONAL[name]
    changed, total = dict[int, str](), 0
    for row in hinted_rows(texts, kind):
        text, count = _replaced(texts[row].as_py(), name, kind)
        if count:
            changed[row] = text
            total += count
    if not changed:
        return texts, 0
    where = np.zeros(len(texts), dtype=np.bool_)
    where[list(changed)] = True
    return pc.replace_with_mask(texts, pa.array(where), pa.array(list(changed.values()), pa.string())), total
