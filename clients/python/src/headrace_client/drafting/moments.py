"""Numbers that tell of a time: moments since 1970, and dates written as 20260131.

As they are, nothing is learned from them: every record to come has a later one than all that were learned from.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from headrace_client.drafting.observing import Observed

_NAME: Final = re.compile(
    r"(.*[_.-])?(at|time|timestamp|ts|date|datetime|dt|day|created|updated|datum|zeit|zeitpunkt|fecha|hora|heure|jour)"
    r"|.*[a-z](At|Time|Timestamp|TS|Ts|Date)",
    re.ASCII | re.IGNORECASE,
)
_SINCE_S: Final = 946_684_800
_UNTIL_S: Final = 4_102_444_800
"""The years from 2000 to 2100."""
_SERIALS: Final = (36_526, 73_051)
"""The same, in days since 1899-12-30."""
_UNITS: Final = {1: "seconds", 1_000: "milliseconds", 1_000_000: "microseconds"}
"""By how many there are in a second."""
DAY_S: Final = 86_400
WEEK_S: Final = 7 * DAY_S


def is_called_a_moment(name: str) -> bool:
    """Tell whether a field of this name is one that tells when something happened."""
    return _NAME.fullmatch(name) is not None


def unit_of(field: Observed) -> tuple[int, str] | None:
    """Return of a field that holds moments how many of its units are a second, with their name; None of others."""
    if field.shape or field.type not in ("int64", "float64") or field.low is None or field.high is None:
        return None
    if not is_called_a_moment(field.name):
        return None
    for units, name in _UNITS.items():
        if _SINCE_S * units <= field.low <= field.high < _UNTIL_S * units:
            return units, name
    return None


def are_dates(field: Observed) -> bool:
    """Tell whether all values of a field are dates as whole numbers, such as 20260131."""
    if field.type != "int64" or field.shape or field.values is None or field.distinct < 2:
        return False
    return all(_is_date(int(value)) for value in field.values)


def are_serials(field: Observed) -> bool:
    """Tell whether a field that is called a time holds days since the end of 1899, as spreadsheets count them."""
    if field.shape or field.type not in ("int64", "float32", "float64") or field.low is None or field.high is None:
        return False
    return is_called_a_moment(field.name) and _SERIALS[0] <= field.low < field.high < _SERIALS[1]


def _is_date(number: int) -> bool:
    if not 19_000_101 <= number <= 21_001_231:
        return False
    try:
        date(number // 10_000, number // 100 % 100, number % 100)
    except ValueError:
        return False
    return True
