"""Rows of a dataset whose texts nearly repeat those of another of its rows: which of them training leaves out.

Texts are compared by the sets of their pieces of five letters: how great a part of the pieces that either has is in
both (A. Broder, "On the resemblance and containment of documents", SEQUENCES 1997). Of each set 128 numbers are kept
that are equal in two sets with that chance: one hash of each piece, which says in which of 128 bins it falls, and of
each bin the smallest (P. Li, A. Owen, C.-H. Zhang, "One permutation hashing", NIPS 2012); an empty bin has the number
of another one, drawn by its own place (A. Shrivastava, "Optimal densification for fast and accurate minwise hashing",
ICML 2017). Rows are compared that have four numbers in a row in common, by the last byte of all 128 (P. Li,
A. C. König, "b-bit minwise hashing", WWW 2010). Why at all: K. Lee et al., "Deduplicating training data makes language
models better", ACL 2022.

The hashes are the same everywhere, so that the same rows always give the same result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.errors import DatasetUnusable
from headrace_data.spec import NearDuplicates

CONTAMINATED: Final = "contaminated"
"""Rule: a training row nearly repeats one of validation or test."""
NEAR_DUPLICATES: Final = "nearDuplicates"
"""Rule: a training row nearly repeats an earlier one."""
MOST_ROWS: Final = 2**21
"""Most rows that are compared with each other; 260 bytes are held of each."""

_PIECE: Final = 5
"""Letters of a piece."""
_BINS: Final = 128
_BAND: Final = 4
"""How many numbers in a row two rows must have in common to be compared: at a similarity of 0.6, 0.988 of such rows
have; at 0.7, 0.9998."""
_BANDS: Final = _BINS // _BAND
_EMPTY: Final = np.uint32(2**32 - 1)
_SAME_BYTE: Final = 1 / 256
"""How often two numbers that differ end with the same byte."""
_AT_ONCE: Final = 2**14
"""Pairs of rows that are compared together."""

_LETTERS_AT_ONCE: Final = 2**16
"""Letters that are hashed together: more leave the processor's cache."""

_Hashes = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def _mixed(numbers: _Hashes) -> _Hashes:
    """Return hashes of numbers: the last steps of SplitMix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: _Hashes = numbers ^ (numbers >> np.uint64(31))
    return mixed


def _drawn(count: int, seed: int) -> _Hashes:
    return _mixed((np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15))


_OF_LETTERS: Final = _drawn(_PIECE, 1) | np.uint64(1)
_OF_BANDS: Final = _drawn(_BAND, 2) | np.uint64(1)
_SOURCES: Final = (_drawn(1024 * _BINS, 3) % np.uint64(_BINS)).astype(np.int64).reshape(-1, _BINS)
"""Where the number of an empty bin is looked for, try by try."""


def signatures(texts: pa.Array) -> npt.NDArray[np.uint32]:
    """Return the 128 numbers of each text, [texts, 128]; none may be null or empty."""
    ends = np.cumsum(pc.utf8_length(texts).to_numpy(zero_copy_only=False), dtype=np.int64)
    numbers, start = np.empty((len(texts), _BINS), np.uint32), 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + _LETTERS_AT_ONCE)))
        numbers[start:end] = _signed(texts[start:end], np.diff(ends[start:end], prepend=before))
        start = end
    return numbers


def _signed(texts: pa.Array, lengths: _Places) -> npt.NDArray[np.uint32]:
    gap = _PIECE - 1
    joined = ("\0" * gap).join([*texts.to_pylist(), ""])
    letters = np.frombuffer(joined.encode("utf-32-le"), np.uint32).astype(np.uint64)
    # A piece begins at every letter; behind the last ones of a text there are zeros.
    pieces = letters[:-gap] * _OF_LETTERS[0]
    for place in range(1, gap):
        pieces += letters[place : place - gap] * _OF_LETTERS[place]
    pieces += letters[gap:] * _OF_LETTERS[gap]
    rows = np.repeat(np.arange(len(lengths)), lengths)
    hashes = _mixed(pieces[np.arange(len(rows)) + rows * gap])
    bins = rows * _BINS + (hashes >> np.uint64(57)).astype(np.int64)
    found = np.full(len(lengths) * _BINS, _EMPTY)
    np.minimum.at(found, bins, ((hashes >> np.uint64(26)) & np.uint64(2**31 - 1)).astype(np.uint32))
    return _filled(found.reshape(-1, _BINS))


def _filled(found: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return numbers with those of other bins in the place of empty ones."""
    filled = found.copy()
    rows, bins = np.nonzero(found == _EMPTY)
    for sources in _SOURCES:
        if not len(rows):
            break
        taken = found[rows, sources[bins]]
        there = taken != _EMPTY
        filled[rows[there], bins[there]] = taken[there]
        rows, bins = rows[~there], bins[~there]
    filled[rows, bins] = found[rows].min(axis=1)  # so rarely needed that it does not matter which one
    return filled


class NearRows:
    """The texts of a dataset's rows, as hashes: 260 bytes for each row."""

    def __init__(self, rules: NearDuplicates) -> None:
        self.names = rules.fields
        """The fields that are looked at."""
        self._rules = rules
        self._rows = 0
        self._held_out: list[Mask] = []
        self._bands: list[npt.NDArray[np.uint32]] = []
        self._bytes: list[npt.NDArray[np.uint8]] = []
        self._places: list[_Places] = []
        """Which rows these are of: rows without a text repeat none."""

    def add(self, batch: pa.RecordBatch, held_out: Mask) -> None:
        """Take in rows in their order, and which of them are of validation or test. Raises DatasetUnusable."""
        texts = _compared(batch, self._rules.fields)
        held = np.flatnonzero(pc.not_equal(texts, "").to_numpy(zero_copy_only=False))
        self._held_out.append(held_out)
        self._places.append(held + self._rows)
        self._rows += len(batch)
        if self._rows > MOST_ROWS:
            raise DatasetUnusable(
                f"expected at most {MOST_ROWS:,} rows to look for near duplicates among, got more: a window of fewer "
                f"rows, such as prepare.window: {{rows: {MOST_ROWS}}}, or no prepare.clean.nearDuplicates"
            )
        numbers = signatures(texts.take(pa.array(held)))
        self._bytes.append(numbers.astype(np.uint8))
        folded = (numbers.astype(np.uint64).reshape(-1, _BANDS, _BAND) * _OF_BANDS).sum(axis=2, dtype=np.uint64)
        self._bands.append((_mixed(folded) >> np.uint64(32)).astype(np.uint32))

    def left_out(self) -> dict[str, Mask]:
        """Return which of all rows training leaves out, by rule."""
        found = {rule: np.zeros(self._rows, dtype=np.bool_) for rule in (CONTAMINATED, NEAR_DUPLICATES)}
        if not self._rows:
            return found
        places, held_out = np.concatenate(self._places), np.concatenate(self._held_out)
        # Rows of validation and test come first: it is training that leaves rows out, the later of two.
        order = np.argsort(~held_out[places], kind="stable")
        held = int(held_out[places].sum())
        ends = np.concatenate(self._bytes)[order]
        wanted = _BINS * (self._rules.similarity + (1 - self._rules.similarity) * _SAME_BYTE)
        repeated = np.zeros((2, len(order)), dtype=np.bool_)
        for band in range(_BANDS):
            column = np.concatenate([each[:, band] for each in self._bands])[order]
            for rows, others in _pairs(column, held):
                alike = _alike(ends, rows, others, math.ceil(wanted))
                repeated[0, rows[alike & (others < held)]] = True
                repeated[1, rows[alike & (others >= held)]] = True
        found[CONTAMINATED][places[order[repeated[0]]]] = True
        if self._rules.of == "all":
            found[NEAR_DUPLICATES][places[order[repeated[1] & ~repeated[0]]]] = True
        return found


def _compared(batch: pa.RecordBatch, fields: tuple[str, ...]) -> pa.Array:
    """Return the texts of rows as they are compared: in lower case, with one blank for each white space."""
    joined: Any = pc.binary_join_element_wise(*(pc.fill_null(batch.column(name), "") for name in fields), "\n")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(joined), r"\s+", " "))


def _pairs(column: npt.NDArray[np.uint32], held: int) -> Iterator[tuple[_Places, _Places]]:
    """Yield training rows with rows before them that have the same number.

    These are the first, the last that is held out, and the one just before: of all pairs there may be too many. The
    first `held` rows are held out.
    """
    order = np.argsort(column, kind="stable")
    ordered, numbers = column[order], np.arange(len(column))
    begins = np.ones(len(column), dtype=np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(begins, numbers, 0))
    last_held = np.maximum.accumulate(np.where(order < held, numbers, 0))
    learned = np.flatnonzero((order >= held) & ~begins)
    yield order[learned], order[first[learned]]
    again = learned[learned - 1 > first[learned]]
    yield order[again], order[again - 1]
    also = again[(last_held[again] > first[again]) & (last_held[again] < again - 1)]
    yield order[also], order[last_held[also]]


def _alike(ends: npt.NDArray[np.uint8], rows: _Places, others: _Places, wanted: int) -> Mask:
    """Return which pairs of rows have so many bytes in common."""
    alike = np.zeros(len(rows), dtype=np.bool_)
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        alike[some] = (ends[rows[some]] == ends[others[some]]).sum(axis=1) >= wanted
    return alike
