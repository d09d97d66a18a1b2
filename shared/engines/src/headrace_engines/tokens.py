"""Texts as tokens: what a model of language reads in their place, made by the library that its authors used."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_engines.errors import NotAModel
from headrace_engines.properties import Tokenised

NO_TOKEN: Final = -1
"""Stands behind the last token of a row."""
_MOST_CHARACTERS: Final = 128
"""Characters of a text that are looked at for each token that is kept: none takes long, however long it is."""


class Tokenizer:
    """Makes tokens of texts, as `transformers` does with `truncation=True`. Safe for use by many threads.

    Its texts are one column, or two where `Tokenised.second` says so, of which each row is a pair.
    """

    def __init__(self, tokenised: Tokenised) -> None:
        """Read a tokenizer. Raises NotAModel for JSON that is none, and where the library is not installed."""
        self.tokenised = tokenised
        second = [] if tokenised.second is None else [tokenised.second.fill]
        self._fills = [tokenised.fill or "", *(fill or "" for fill in second)]
        try:
            import tokenizers
        except ImportError as error:
            raise NotAModel(
                f"texts that are language need the library tokenizers: install headrace-engines[text] ({error})"
            ) from error
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(tokenised.tokenizer)
            # Whatever the file says of both: rows are as long as their texts, up to the length.
            self._tokenizer.no_padding()
            if second:
                # The library would keep what it cuts off, each part of the one text beside each of the other: pairs
                # are cut here, or one of long texts took gigabytes.
                self._tokenizer.no_truncation()
            else:
                self._tokenizer.enable_truncation(tokenised.length)
            self._room: int = tokenised.length - self._tokenizer.num_special_tokens_to_add(bool(second))
            around: Any = self._tokenizer.encode("", "" if second else None)
        except Exception as error:  # its exceptions have no base of their own
            raise NotAModel(f"expected a tokenizer as tokenizer.json has it, got {error}") from error
        if second and set(around.type_ids) != {0, 1}:
            raise NotAModel("expected a tokenizer with marks of types 0 and 1 around two texts, got one without")
        self.frame: list[int] = around.ids
        """The tokens that each row has around its texts, whatever they say."""
        if len(self.frame) > tokenised.length:
            raise NotAModel(
                f"expected a length of at least {len(self.frame)} tokens, which each row has, got {tokenised.length}"
            )

    @property
    def largest(self) -> int:
        """The largest number of a token."""
        numbers: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return max(numbers.values())

    def number(self, token: str) -> int | None:
        """Return the number of a token; None where there is no such."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def rows(self, *columns: Sequence[str]) -> list[list[list[int]]]:
        """Return for each column of texts the tokens of its rows; "" is missing.

        Of a pair the two are of equal length, with the tokens of both in their places and `NO_TOKEN` in those of the
        other.
        """
        made: list[list[list[int]]] = [[] for _ in columns]
        for encoding, _ in self._encoded(columns):
            if len(made) == 1:
                made[0].append(encoding.ids)
                continue
            kept = self._kept(encoding)
            for place, rows in enumerate(made):
                rows.append([token if kind == place else NO_TOKEN for token, kind in kept])
        return made

    def cut(self, *columns: Sequence[str]) -> list[int]:
        """Return for each column how many texts have more tokens than are kept."""
        cut = [0] * len(columns)
        for encoding, given in self._encoded(columns):
            if len(columns) == 1:
                lost = [bool(encoding.overflowing)]
            else:
                sizes = _sizes(encoding.sequence_ids)
                lost = [size > room for size, room in zip(sizes, _rooms(sizes, self._room), strict=True)]
            for place, text in enumerate(given):
                cut[place] += lost[place] or len(text) > self._most
        return cut

    def _kept(self, encoding: Any) -> list[tuple[int, int]]:
        """Return the tokens of a pair that are kept, each with its type."""
        tokens = zip(encoding.ids, encoding.type_ids, strict=True)
        if len(encoding.ids) <= self.tokenised.length:
            return list(tokens)
        owners: list[int | None] = encoding.sequence_ids
        left = _rooms(_sizes(owners), self._room)
        kept = []
        for token, owner in zip(tokens, owners, strict=True):
            if owner is None:  # a mark
                kept.append(token)
            elif left[owner]:
                left[owner] -= 1
                kept.append(token)
        return kept

    @property
    def _most(self) -> int:
        return self.tokenised.length * _MOST_CHARACTERS

    def _encoded(self, columns: Sequence[Sequence[str]]) -> Iterator[tuple[Any, list[str]]]:
        """Yield what the library makes of each row, and its texts."""
        for row in zip(*columns, strict=True):
            given = [text or fill for text, fill in zip(row, self._fills, strict=True)]
            # One row at a time: of several the library makes tokens in threads of its own.
            yield self._tokenizer.encode(*(text[: self._most] for text in given)), given


def _sizes(owners: Sequence[int | None]) -> list[int]:
    """Return how many tokens each text of a pair has; None owns marks."""
    return [owners.count(0), owners.count(1)]


def _rooms(sizes: Sequence[int], room: int) -> list[int]:
    """Return how many tokens of each text of a pair are kept where there is room for so many: longest first.

    As the library has it: where both are cut, the longer one has the odd token, and the second of two that are equal.
    """
    first, second = sizes
    if first + second <= room:
        return [first, second]
    shorter = min(first, second, room // 2)
    return [room - shorter, shorter] if first > second else [shorter, room - shorter]


def in_rows(tokens: Sequence[Sequence[int]], length: int | None = None) -> npt.NDArray[np.int64]:
    """Return rows of tokens as one array, [rows, length], of the longest row's length where none is given."""
    width = max(map(len, tokens), default=0) if length is None else length
    rows = np.full((len(tokens), width), NO_TOKEN, dtype=np.int64)
    for place, row in enumerate(tokens):
        rows[place, : len(row)] = row
    return rows
