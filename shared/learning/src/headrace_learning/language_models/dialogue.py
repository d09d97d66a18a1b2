"""Rows of prompts and answers as a network learns from them: tokens, and where what is learned begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from headrace_data.transforms import FittedText

from headrace_learning.language_models.words import Words

_AT_ONCE: Final = 1024
"""Rows whose tokens are made at once."""
Texts = Sequence[str | None] | npt.NDArray[Any]
"""A column of texts; None and "" are missing."""


class FittedDialogue(FittedText):
    """The transform of a prompt together with its answer, or of an answer to nothing, which is a text by itself."""

    kind = "text"

    def __init__(self, prompt: FittedText | None, words: Words, length: int) -> None:
        """Make `length` tokens of a row at most."""
        self._prompt = prompt
        self.name, self.fill = (prompt.name, prompt.fill) if prompt else ("", None)
        self.words = words
        self._length = length

    @property
    def width(self) -> int:
        """Numbers of a row: where what is learned begins, and the tokens."""
        return 1 + self._length

    def prompts(self, values: Texts | None, rows: int) -> list[str]:
        """Return what stands before the answers of so many rows; `values` is the prompts' column, None without one."""
        if self._prompt is None or values is None:
            return [self.words.beginning] * rows
        return [self.words.prompt(text or self.fill or "") for text in self._prompt.codes(values)]

    def rows(self, values: Texts | None, answers: Texts) -> npt.NDArray[np.int32]:
        """Return rows as `packed` takes them, [rows, width]: what ends an answer is learned with it."""
        made: npt.NDArray[np.int32] = np.full((len(answers), self.width), -1, np.int32)
        made[:, 0] = 1
        end = self.words.places[self.words.end]
        for start in range(0, len(answers), _AT_ONCE):
            some = answers[start : start + _AT_ONCE]
            prompts = self.words.encoded(
                self.prompts(None if values is None else values[start : start + _AT_ONCE], len(some))
            )
            for row, (before, told) in enumerate(
                zip(prompts, self.words.encoded([text or "" for text in some]), strict=True), start
            ):
                # A prompt without room for an answer teaches nothing: the row has no tokens.
                if 0 < len(before) < self._length:
                    tokens = [*before, *told, end][: self._length]
                    made[row, 0] = len(before)
                    made[row, 1 : 1 + len(tokens)] = tokens
        return made

    def codes(self, values: Texts) -> npt.NDArray[Any]:
        """Return the texts: their codes are they themselves."""
        return np.asarray(values, dtype=object) if self._prompt is None else self._prompt.codes(values)

    def knows(self, text: str) -> bool:
        """Return False: no text has a place of its own."""
        return False

    def apply(self, values: Texts) -> npt.NDArray[np.float32]:
        """Raise TypeError: tokens are made of a prompt and its answer together."""
        raise TypeError(f"feature {self.name!r}: expected its answers beside it")

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values."""
        return {} if self._prompt is None else self._prompt.to_plain()
