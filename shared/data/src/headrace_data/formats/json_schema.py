"""JSON behind the five bytes that serialisers of a schema registry write before it, or without them.

A JSON document names its own values, so that the schema need not be asked for: the checks of the stream follow.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headrace_data.formats.decoding import Decoded
from headrace_data.formats.framing import MAGIC, PREFIX_BYTES
from headrace_data.formats.json_objects import JsonDecoder
from headrace_data.rejections import Rejection


class JsonSchemaDecoder:
    """Reads JSON objects that a schema registry's serialiser wrote."""

    def __init__(self, names: Collection[str]) -> None:
        self._json = JsonDecoder(names)

    def decode(self, values: Sequence[bytes | None], start: int, rejected: list[Rejection]) -> Decoded:
        """Return the JSON objects among some values: see `Decoder`."""
        # No JSON begins with the byte 0.
        bare = [value[PREFIX_BYTES:] if value and value[0] == MAGIC else value for value in values]
        return self._json.decode(bare, start, rejected)
