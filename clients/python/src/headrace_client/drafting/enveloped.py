"""Samples whose records come in envelopes: the envelope, and the rows in it that a pipeline is drafted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace_data.formats.decoding import Undecodable
from headrace_data.formats.envelopes import ENVELOPES

_SHARE: Final = 0.95
"""Share of records that come in an envelope, from which on the others are taken for faults."""
_KEPT: Final = "ce_id"
"""What is of an envelope and may name a row; what else is beside a row is told of its sending."""


def opened(records: Sequence[Mapping[str, Any]]) -> tuple[str, list[Mapping[str, Any]]] | None:
    """Return the envelope that records come in, and their rows; None of records that come in none, or are mixed."""
    for kind, open_one in ENVELOPES.items():
        rows: list[Mapping[str, Any]] = []
        others = 0
        for record in records:
            try:
                row = open_one(dict(record))
            except Undecodable:
                others += 1
                continue
            if row is not None:
                rows.append(_own(row))
        if rows and others <= (1 - _SHARE) * len(records):
            return kind, rows
    return None


def _own(row: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in row.items() if not name.startswith(("__", "ce_"))}
    return own | ({_KEPT: row[_KEPT]} if _KEPT in row else {})
