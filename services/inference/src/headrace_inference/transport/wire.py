"""Protobuf's wire format, as far as serialised messages are put together from serialised parts.

See https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

_LENGTH_DELIMITED = 2


def varint(number: int) -> bytes:
    """Return a number, not negative, as protobuf writes it."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def head(field: int, length: int) -> bytes:
    """Return what stands before the bytes of a field: of a message, a string or bytes."""
    return varint(field << 3 | _LENGTH_DELIMITED) + varint(length)
