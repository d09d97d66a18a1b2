"""JSON behind the five bytes that serialisers of a schema registry write before it, or without them.

A JSON document names its own values, so that the schema need not be asked for: the checks of the stream follow. Where
the stream names a registry, records are known by their schemas all the same, as those of other formats are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from headrace_data.formats.decoding import Decoded, Undecodable
from headrace_data.formats.framing import MAGIC, PREFIX_BYTES
from headrace_data.formats.json_objects import JsonDecoder
from headrace_data.formats.schemas import Compile
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


def compile_json(names: Collection[str]) -> Compile:
    """Return what makes a reader of JSON objects, whichever schema they are written with. `names`: see JsonDecoder."""
    decoder = JsonDecoder(names)

    def read(value: bytes) -> dict[str, Any]:
        rejected: list[Rejection] = []
        records, _ = decoder.decode([value], 0, rejected)
        for fault in rejected:
            raise Undecodable(fault.reason, fault.rule, fault.field)
        return records[0]

    return lambda _schema: read
