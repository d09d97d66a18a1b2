"""Raw features on their way into a network: their places in a schema, and the transforms that were fitted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from headrace_data.spec.feature_rules import RESERVED
from headrace_data.transforms import Fitted, FittedText

from headrace_learning.errors import NotLearnable
from headrace_learning.language import TOKENS, FittedSecond, FittedTokens

_NUMBERS = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64"}


@dataclass(frozen=True)
class Feature:
    """One raw feature of a model: its place in the schema and its fitted transform."""

    fitted: Fitted
    type: str = "string"
    """Element type as in the schema, such as float32."""
    shape: tuple[int, ...] = ()
    """Shape of one row; empty for a single number or text."""

    def __post_init__(self) -> None:
        if not isinstance(self.fitted, FittedText) and self.type not in _NUMBERS:
            raise NotLearnable(f"feature {self.name!r}: expected numbers to learn from, got type {self.type}")
        if self.name in RESERVED:
            raise NotLearnable(f"feature {self.name!r}: expected another name, this one belongs to the model's answers")

    @property
    def name(self) -> str:
        """Its name."""
        return self.fitted.name

    @property
    def has_codes(self) -> bool:
        """Whether it is a text that the graph makes a code of."""
        return self.is_text and not self.has_tokens

    @property
    def has_tokens(self) -> bool:
        """Whether it is a text that an engine makes tokens of."""
        return isinstance(self.fitted, FittedTokens | FittedSecond)

    @property
    def is_text(self) -> bool:
        """Whether callers send texts."""
        return self.type == "string"

    @property
    def graph_shape(self) -> tuple[int | str, ...]:
        """The shape of one row of what the graph takes: of a text that a network reads, so many tokens as it has."""
        return (TOKENS,) if self.has_tokens else self.shape

    @property
    def graph_type(self) -> np.dtype[Any]:
        """The type in which the graph's transform takes it: of texts the codes, of whole numbers with gaps float64."""
        if self.is_text:
            return np.dtype(np.int64)
        return np.dtype("float64" if self.fitted.optional and not self.type.startswith("float") else self.type)
