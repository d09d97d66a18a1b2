"""What a graph says of itself beside its tensors, in the properties of its ONNX file."""

from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from headrace_engines.errors import NotAModel

OPTIONAL: Final = "headrace.optional"
"""The inputs that may be missing, as a JSON list of names. Not there when there are none."""
LABELS: Final = "headrace.labels"
STEPS: Final = "headrace.steps"
"""What the places of an output's last dimension stand for, as a JSON object of lists of texts by output."""
TOKENS: Final = "headrace.tokens"
"""Which inputs of the graph are the tokens of texts, as a JSON object of what `Tokenised` holds by input."""

ROWS: Final = "headrace.rows"
"""`"dependent"`, as JSON, where the answers to a row depend on the other rows of its call, because activations are
rounded in the range of the call. Whoever keeps answers by row, or joins calls, must leave such a graph alone."""
DEPENDENT: Final = "dependent"

ToldT = TypeVar("ToldT")


class SecondText(BaseModel):
    """The second text of a pair, which callers send in the place of an input of its own, [batch, tokens] int64.

    The two are tokens of one row: each input has its own in their places, and -1 in those of the other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of the input."""
    fill: str | None = None
    """What stands for a text that is missing, as of the first."""


class Tokenised(BaseModel):
    """An input of a graph, [batch, tokens] int64, that is made of a text, which callers send in its place.

    A token is its number in the vocabulary; -1 stands behind the last token of a row that is shorter than others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fill: str | None = None
    """What stands for a text that is missing, the empty one; None where none may be."""
    length: int = Field(ge=1, le=65_536)
    """Most tokens of a row, the special ones included; the rest is cut off, of two texts the longer one's first."""
    second: SecondText | None = None
    """The text that stands behind it in each row; None where there is none."""
    tokenizer: str
    """The JSON of the Hugging Face library `tokenizers`, as in `tokenizer.json`."""


_KINDS: Final = {
    OPTIONAL: (TypeAdapter(frozenset[str]), "a JSON list of names"),
    LABELS: (TypeAdapter(dict[str, tuple[str, ...]]), "a JSON object of lists of texts"),
    STEPS: (TypeAdapter(dict[str, tuple[str, ...]]), "a JSON object of lists of texts"),
    TOKENS: (TypeAdapter(dict[str, Tokenised]), "a JSON object of tokenised inputs"),
    ROWS: (TypeAdapter(Literal["dependent"]), f'"{DEPENDENT}"'),
}


def told(properties: dict[str, str], name: str, otherwise: ToldT) -> ToldT:
    """Return a property of a graph. Raises NotAModel for one that cannot be read."""
    kind, expected = _KINDS[name]
    text = properties.get(name)
    try:
        return otherwise if text is None else kind.validate_json(text)  # type: ignore[attr-defined]
    except ValidationError as error:
        raise NotAModel(f"expected {expected} as {name}, got {text[:40]!r}" if text else str(error)) from error
