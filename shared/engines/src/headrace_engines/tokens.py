"""Texts as tokens: what a model of language reads in their place, made by the library that its authors used."""

from collections.abc import Iterable, Iterator, Sequence
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
    """Makes tokens of texts, as `transformers` does with `truncation=True`. Safe for use by many threads."""

    def __init__(self, tokenised: Tokenised) -> None:
        """Read a tokenizer. Raises NotAModel for JSON that is none, and where the library is not installed."""
        self.tokenised = tokenised
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
            special = len(self.frame)
        except Exception as error:  # its exceptions have no base of their own
            raise NotAModel(f"expected a tokenizer as tokenizer.json has it, got {error}") from error
        if special > tokenised.length:
            raise NotAModel(
                f"expected a length of at least {special} tokens, which each text has, got {tokenised.length}"
            )

    @property
    def largest(self) -> int:
        """The largest number of a token."""
        numbers: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return max(numbers.values())

    @property
    def frame(self) -> list[int]:
        """The tokens that each text has around it, whatever it says."""
        numbers: list[int] = self._tokenizer.encode("").ids
        return numbers

    def number(self, token: str) -> int | None:
        """Return the number of a token; None where there is no such."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def tokens(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the tokens of each text; "" is missing."""
        return [encoding.ids for encoding, _ in self._encoded(texts)]

    def cut(self, texts: Iterable[str]) -> int:
        """Return how many texts have more tokens than are kept."""
        return sum(bool(more or encoding.overflowing) for encoding, more in self._encoded(texts))

    def _encoded(self, texts: Iterable[str]) -> Iterator[tuple[Any, bool]]:
        """Yield what the library makes of each text, and whether more characters came than are looked at."""
        most, fill = self.tokenised.length * _MOST_CHARACTERS, self.tokenised.fill or ""
        for text in texts:
            given = text or fill
            # One text at a time: of several the library makes tokens in threads of its own.
            yield self._tokenizer.encode(given[:most]), len(given) > most


def in_rows(tokens: Sequence[Sequence[int]], length: int | None = None) -> npt.NDArray[np.int64]:
    """Return rows of tokens as one array, [rows, length], of the longest row's length where none is given."""
    width = max(map(len, tokens), default=0) if length is None else length
    rows = np.full((len(tokens), width), NO_TOKEN, dtype=np.int64)
    for place, row in enumerate(tokens):
        rows[place, : len(row)] = row
    return rows
