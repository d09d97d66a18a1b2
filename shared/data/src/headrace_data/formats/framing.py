"""The wire format of schema registries: a zero, four bytes of the schema's id, and the value behind them.

As Confluent's serialisers write it, and those of Apicurio's in their compatible form.
"""

from __future__ import annotations

from typing import Final

from headrace_data.formats.decoding import Undecodable

MAGIC: Final = 0
PREFIX_BYTES: Final = 5


def unframed(value: bytes) -> tuple[int, bytes]:
    """Return the schema's id and what stands behind it. Raises Undecodable for what is not framed."""
    if value[0] != MAGIC or len(value) < PREFIX_BYTES:
        got = f"{len(value)} bytes" if value[0] == MAGIC else f"a first byte {value[0]}"
        raise Undecodable(f"expected a byte 0, four bytes of a schema's id and a value, got {got}")
    return int.from_bytes(value[1:PREFIX_BYTES], "big"), value[PREFIX_BYTES:]
