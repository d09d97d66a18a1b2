"""Texts that a network reads: their tokens are its inputs, made by the engine that will serve it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from headrace_data.transforms import FittedText, Together
from headrace_engines.errors import NotAModel
from headrace_engines.properties import SecondText, Tokenised
from headrace_engines.tokens import Tokenizer, in_rows

from headrace_learning.errors import NotLearnable

TOKENS: Final = "tokens"
"""Name of the graph's dimension that callers choose by how long their texts are."""
Texts = Sequence[str | None] | npt.NDArray[Any]
"""A column of texts; None and "" are missing."""


class FittedTokens(FittedText, Together):
    """The transform of a text, with the tokenizer of the network that reads it: of a pair the first one's, of both.

    Tokens are kept as float32, as all inputs are, which holds each number up to 2^24 exactly.
    """

    kind = "text"

    def __init__(self, texts: Sequence[FittedText], tokenizer: str, length: int) -> None:
        """Make `length` tokens at most of the texts of a row. Raises NotLearnable for what is no tokenizer.

        `texts` are those of one feature or two, `tokenizer` is the JSON of a `tokenizer.json`.
        """
        self._texts = tuple(texts)
        first = self._texts[0]
        self.name, self.fill = first.name, first.fill
        self.others = tuple(each.name for each in self._texts[1:])
        second = next((SecondText(name=each.name, fill=each.fill) for each in self._texts[1:]), None)
        self.tokenised = Tokenised(fill=first.fill, length=length, second=second, tokenizer=tokenizer)
        try:
            self._tokenizer = Tokenizer(self.tokenised)
        except NotAModel as error:
            raise NotLearnable(f"train.network: {error}") from error

    @property
    def width(self) -> int:
        """Tokens of a row, at most, once for each of its texts."""
        return self.tokenised.length * len(self._texts)

    @property
    def largest(self) -> int:
        """The largest number of a token."""
        return self._tokenizer.largest

    def codes(self, values: Texts) -> npt.NDArray[Any]:
        """Return the texts: their codes are they themselves."""
        return self._texts[0].codes(values)

    def knows(self, text: str) -> bool:
        """Return False: no text has a place of its own."""
        return False

    def apply(self, values: Texts) -> npt.NDArray[np.float32]:
        """Return the tokens of texts that stand alone, [rows, length], with -1 behind the last of each."""
        return self.apply_together([values])

    def apply_together(self, columns: Sequence[Texts]) -> npt.NDArray[np.float32]:
        """Return the tokens of rows, [rows, width], with -1 behind the last of each.

        Of a pair the first half has those of the first text and the second half those of the second: in their places of
        the row, with -1 in those of the other.
        """
        rows = self._tokenizer.rows(*self._coded(columns))
        return np.concatenate([in_rows(each, self.tokenised.length) for each in rows], axis=1).astype(np.float32)

    def cut(self, columns: Mapping[str, Texts]) -> dict[str, int]:
        """Return by feature how many texts are read in part, having more tokens than there is room for."""
        names = (self.name, *self.others)
        return dict(zip(names, self._tokenizer.cut(*self._coded([columns[name] for name in names])), strict=True))

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values, without the tokenizer, which is the network's."""
        return self._texts[0].to_plain()

    def _coded(self, columns: Sequence[Texts]) -> list[Any]:
        return [text.codes(values) for text, values in zip(self._texts, columns, strict=True)]


class FittedSecond(FittedText):
    """The transform of the second text of a pair: nothing, as the first one's makes the tokens of both."""

    kind = "text"
    width = 0

    def __init__(self, text: FittedText) -> None:
        self._text = text
        self.name, self.fill = text.name, text.fill

    def codes(self, values: Texts) -> npt.NDArray[Any]:
        """Return the texts: their codes are they themselves."""
        return self._text.codes(values)

    def knows(self, text: str) -> bool:
        """Return False: no text has a place of its own."""
        return False

    def apply(self, values: Texts) -> npt.NDArray[np.float32]:
        """Return no inputs, [rows, 0]."""
        return np.empty((len(values), 0), dtype=np.float32)

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values."""
        return self._text.to_plain()
