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
            self._tokenizer.enable_truncation(tokenised.length)
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
            for place, rows in enumerate(made):
                if len(made) == 1:
                    rows.append(encoding.ids)
                else:
                    pairs = zip(encoding.ids, encoding.type_ids, strict=True)
                    rows.append([token if kind == place else NO_TOKEN for token, kind in pairs])
        return made

    def cut(self, *columns: Sequence[str]) -> list[int]:
        """Return for each column how many texts have more tokens than are kept."""
        cut = [0] * len(columns)
        for encoding, given in self._encoded(columns):
            for place, text in enumerate(given):
                cut[place] += self._lost(encoding, place, text)
        return cut

    def _lost(self, encoding: Any, place: int, text: str) -> bool:
        """Return whether a row has less than all tokens of its text at a place."""
        if len(text) > self._most or not encoding.overflowing:
            return len(text) > self._most
        whole: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        kept = [each for each in encoding.sequence_ids if each == place]
        return len(whole) > len(kept)

    @property
    def _most(self) -> int:
        return self.tokenised.length * _MOST_CHARACTERS

    def _encoded(self, columns: Sequence[Sequence[str]]) -> Iterator[tuple[Any, list[str]]]:
        """Yield what the library makes of each row, and its texts."""
        for row in zip(*columns, strict=True):
            given = [text or fill for text, fill in zip(row, self._fills, strict=True)]
            # One row at a time: of several the library makes tokens in threads of its own.
            yield self._tokenizer.encode(*(text[: self._most] for text in given)), given


def in_rows(tokens: Sequence[Sequence[int]], length: int | None = None) -> npt.NDArray[np.int64]:
    """Return rows of tokens as one array, [rows, length], of the longest row's length where none is given."""
    width = max(map(len, tokens), default=0) if length is None else length
    rows = np.full((len(tokens), width), NO_TOKEN, dtype=np.int64)
    for place, row in enumerate(tokens):
        rows[place, : len(row)] = row
    return rows
