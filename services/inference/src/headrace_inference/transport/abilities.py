"""What models can do beyond the Open Inference Protocol: write texts, or answer the embedding of a text."""

from __future__ import annotations

from typing import Final

from headrace_runtime.errors import InvalidInput

from headrace_inference.core.shelf import LoadedVersion, Shelf
from headrace_inference.core.tensors import BYTES, DATATYPES, decode_raw

EMBEDDING: Final = "embedding"
"""The output that is the embedding of each row."""


class Abilities:
    """Looks at what is on the shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def names(self) -> list[str]:
        """Return the models whose champion writes texts, or answers embeddings."""
        return sorted(
            name
            for name, versions in self._shelf.models.items()
            if any(each.language is not None or _embedding(each) is not None for each in versions.all)
        )

    def check(self, name: str, version_name: str) -> None:
        """Raise what looking for a version raises."""
        self._shelf.resolve(name, version_name)

    def check_writes(self, name: str, version_name: str) -> None:
        """Raise InvalidInput for a model that does not write texts, and what looking for it raises."""
        if self._shelf.resolve(name, version_name).language is None:
            raise InvalidInput(f"model: expected one that writes texts, got {name!r}: see /v2/models/{name}")

    def embedding(self, name: str, version_name: str) -> tuple[str, int]:
        """Return the input that takes the text, and the width of the embedding.

        Raises InvalidInput for a model that has no embedding of one text, and what looking for it raises.
        """
        found = _embedding(self._shelf.resolve(name, version_name))
        if found is None:
            told = "expected one that answers the embedding of a text (train.network.embedding)"
            raise InvalidInput(f"model: {told}, got {name!r}")
        return found

    def tokens(self, name: str, version_name: str, texts: bytes, count: int) -> int:
        """Return how many tokens a model reads of its one input's texts, which are raw contents. From any thread."""
        model = self._shelf.resolve(name, version_name).model
        feature = model.signature.inputs[0].name
        return model.tokens({feature: decode_raw(feature, BYTES, (count,), texts)})


def _embedding(version: LoadedVersion) -> tuple[str, int] | None:
    signature = version.model.signature
    output = next((each for each in signature.outputs if each.name == EMBEDDING), None)
    if output is None or len(signature.inputs) != 1 or output.datatype is not DATATYPES["FP32"]:
        return None
    (text,) = signature.inputs
    if text.datatype is not BYTES or len(text.shape) != 1 or len(output.shape) != 2:
        return None
    width = output.shape[1]
    return (text.name, width) if isinstance(width, int) else None
