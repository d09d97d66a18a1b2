"""Texts as tokens: what a model of language reads in their place, made by the library that its authors used."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_engines.errors import NotAModel
from headrace_engines.properties import Tokenised

NO_TOKEN: Final = -1
"""Stands behind the last token of a row."""
_MOST_CHARACTERS: Final = 128
"""Characters of a text that are looked at for each token that is kept: no text takes long, however long it is."""

Texts = Sequence[str] | npt.NDArray[Any]


class Tokenizer:
    """Makes tokens of texts, as `transformers` does with `truncation=True`. Safe for use by many threads."""

    def __init__(self, tokenised: Tokenised) -> None:
        """Read a tokenizer. Raises NotAModel for JSON that is none, and where the library is not installed."""
        self.tokenised = tokenised
        try:
            import tokenizers
        except ImportError as error:
            raise NotAModel(
                f"input {tokenised.texts[0]!r} is a text of language, which needs the library tokenizers: install "
                f"headrace-engines[text] ({error})"
            ) from error
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(tokenised.tokenizer)
            # Whatever the file says of both: rows are as long as their texts, up to the length.
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(tokenised.length)
            self.vocabulary: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
            # The special tokens alone may take all room.
            self._encode(["a" for _ in tokenised.texts])
        except Exception as error:
            raise NotAModel(f"input {tokenised.texts[0]!r}: its tokenizer cannot be used: {error}") from error

    def tokens(self, columns: Sequence[Texts]) -> list[list[int]]:
        """Return the tokens of each row, of one column of texts or of the two of a pair; "" is missing."""
        return [self._row(texts) for texts in zip(*columns, strict=True)]

    def _row(self, texts: tuple[str, ...]) -> list[int]:
        most = self.tokenised.length * _MOST_CHARACTERS
        filled = [
            (text if text or fill is None else fill)[:most]
            for text, fill in zip(texts, self.tokenised.fills, strict=True)
        ]
        # One text at a time: of several the library makes tokens in threads of its own.
        encoded = self._encode(filled)
        ids: list[int] = encoded.ids
        if len(texts) == 1:
            return ids
        return [token + self.vocabulary * kind for token, kind in zip(ids, encoded.type_ids, strict=True)]

    def _encode(self, texts: Sequence[str]) -> Any:
        first, *second = texts
        return self._tokenizer.encode(first, second[0] if second else None)


def in_rows(tokens: Sequence[Sequence[int]], length: int | None = None) -> npt.NDArray[np.int64]:
    """Return rows of tokens as one array, [rows, length], of the longest row's length where none is given."""
    width = max(map(len, tokens), default=0) if length is None else length
    rows = np.full((len(tokens), width), NO_TOKEN, dtype=np.int64)
    for place, row in enumerate(tokens):
        rows[place, : len(row)] = row
    return rows
