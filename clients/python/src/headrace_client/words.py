"""Words that stand for something else: for no value, for yes and for no, as people and programs write them."""

from __future__ import annotations

from typing import Final

_ERRORS: Final = ("#n/a", "#na", "#value!", "#div/0!", "#ref!", "#name?", "#num!", "#null!")
_ERRORS_ELSEWHERE: Final = ("#nv", "#wert!", "#bezug!", "#zahl!", "#valeur!", "#¡valor!", "#¡div/0!")
"""What spreadsheets write in place of a value that cannot be computed, in English and in other languages."""
_NO_TEXT: Final = frozenset(("NA", "N/A", "n/a", "N.A.", "n.a.", "NaN", "null", "NULL", "Null", "<NA>", "\\N"))
_NO_NUMBER: Final = frozenset(
    (
        *("", "na", "n/a", "n.a.", "n.a", "n/d", "n.d.", "nan", "<na>", "nil", "none", "null", "(null)", "\\n", "void"),
        *(
            "-",
            "--",
            "---",
            "\u2013",
            "\u2014",
            ".",
            "..",
            "...",
            "?",
            "??",
            "*",
            "missing",
            "unknown",
            "undefined",
            "empty",
        ),
        *("(blank)", "blank", "tbd", "tba", "k.a.", "k. a.", "not available", "not applicable"),
        *_ERRORS,
        *_ERRORS_ELSEWHERE,
    )
)
YES: Final = ("yes", "y", "true", "t", "on", "ja", "j", "wahr", "oui", "vrai", "sí", "si", "sì", "sim", "tak", "да")
NO: Final = ("no", "n", "false", "f", "off", "nein", "falsch", "non", "faux", "não", "nie", "нет")
"""In lower case, English before other languages; no word is in both."""


def is_no_text(text: str) -> bool:
    """Tell whether a text, without blanks around it, says that there is no text.

    Only what is hardly ever a name for something: `None` may be a kind of wall, and `-` a grade.
    """
    return text in _NO_TEXT or text.lower() in (*_ERRORS, *_ERRORS_ELSEWHERE)


def is_no_number(text: str) -> bool:
    """Tell whether a text, without blanks around it, stands for nothing where all others are numbers."""
    return text.lower() in _NO_NUMBER
