"""The wire format of schema registries: what names the schema, and the value behind it.

As Confluent's serialisers write it, and Apicurio's in their compatible form: a byte 0 and four bytes of the schema's
id, or a byte 1 and sixteen of its GUID, which may stand in a header in place of the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from headrace_data.formats.decoding import Undecodable

MAGIC: Final = 0
PREFIX_BYTES: Final = 5
HEADER: Final = "__value_schema_id"
"""Header with what would stand before the value."""
_GUID_MAGIC: Final = 1
_GUID_PREFIX_BYTES: Final = 17


def unframed(value: bytes) -> tuple[int | str, bytes]:
    """Return the id or the GUID of the schema, and what stands behind it. Raises Undecodable for what is not framed."""
    if value[0] == MAGIC and len(value) >= PREFIX_BYTES:
        return int.from_bytes(value[1:PREFIX_BYTES], "big"), value[PREFIX_BYTES:]
    if value[0] == _GUID_MAGIC and len(value) >= _GUID_PREFIX_BYTES:
        return str(UUID(bytes=value[1:_GUID_PREFIX_BYTES])), value[_GUID_PREFIX_BYTES:]
    got = f"{len(value)} bytes" if value[0] in (MAGIC, _GUID_MAGIC) else f"a first byte {value[0]}"
    raise Undecodable(f"expected a byte 0, four bytes of a schema's id and a value, got {got}")


def prefix_of(value: bytes) -> bytes:
    """Return what a value, which is not empty, begins with: all that names its schema, if anything does."""
    return value[: PREFIX_BYTES if value[0] == MAGIC else _GUID_PREFIX_BYTES]


def number_of(prefix: bytes) -> int | str | None:
    """Return the id or the GUID that a prefix names; None where it names none."""
    try:
        return unframed(prefix)[0]
    except Undecodable:
        return None


def with_header(value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """Return a value behind what its header tells of its schema; as it is where there is no such header."""
    if value is None:
        return None
    told = next((content for name, content in headers if name == HEADER), b"")
    return told + value if told else value
