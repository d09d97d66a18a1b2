"""Texts that a network reads: their tokens are its inputs, made by the engine that will serve it."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from headrace_data.transforms import FittedText
from headrace_engines.errors import NotAModel
from headrace_engines.properties import Tokenised
from headrace_engines.tokens import Tokenizer, in_rows

from headrace_learning.errors import NotLearnable

TOKENS: Final = "tokens"
"""Name of the graph's dimension that callers choose by how long their texts are."""


class FittedTokens(FittedText):
    """The transform of a text, with the tokenizer of the network that reads it.

    Tokens are kept as float32, as all inputs are, which holds each number up to 2^24 exactly.
    """

    kind = "text"

    def __init__(self, text: FittedText, tokenizer: str, length: int) -> None:
        """Make `length` tokens at most of the texts of a feature. Raises NotLearnable for what is no tokenizer.

        `tokenizer` is the JSON of a `tokenizer.json`.
        """
        self._text = text
        self.name, self.fill = text.name, text.fill
        self.tokenised = Tokenised(fill=text.fill, length=length, tokenizer=tokenizer)
        try:
            self._tokenizer = Tokenizer(self.tokenised)
        except NotAModel as error:
            raise NotLearnable(f"train.network: {error}") from error

    @property
    def width(self) -> int:
        """Tokens of a text, at most."""
        return self.tokenised.length

    @property
    def largest(self) -> int:
        """The largest number of a token."""
        return self._tokenizer.largest

    def codes(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the texts: their codes are they themselves."""
        return self._text.codes(values)

    def knows(self, text: str) -> bool:
        """Return False: no text has a place of its own."""
        return False

    def apply(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the tokens of texts, [rows, length], with -1 behind the last of each."""
        return in_rows(self._tokenizer.tokens(self.codes(values)), self.width).astype(np.float32)

    def cut(self, values: Sequence[str | None] | npt.NDArray[Any]) -> int:
        """Return how many texts are read in part, having more tokens than `width`."""
        return self._tokenizer.cut(self.codes(values))

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values, without the tokenizer, which is the network's."""
        return self._text.to_plain()
