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


def leading_texts(message: bytes) -> tuple[str, str]:
    """Return the texts of the fields 1 and 2 where a message begins with them, in this order; "" for each that is not.

    The first may be all there is. Bytes that are no text, or longer than names are, stand for none.
    """
    first, place = _text(message, 0, 1)
    return (first, _text(message, place, 2)[0]) if first else ("", "")


def _text(message: bytes, place: int, field: int) -> tuple[str, int]:
    """Return the text of a field that begins here and is shorter than 128 bytes, and where it ends; "" for none."""
    begins = place + 2
    if len(message) < begins or message[place] != field << 3 | _LENGTH_DELIMITED or message[place + 1] > 0x7F:
        return "", place
    ends = begins + message[place + 1]
    return message[begins:ends].decode(errors="replace"), ends


def head_of(message: bytes, field: int) -> bytes:
    """Return what a message begins with, up to the first field of this number or a higher one, or what is no field.

    Of fields that stand out of their order, as none of protobuf's own libraries writes them, some may be missing there.
    """
    place = 0
    while place < len(message) and message[place] < field << 3:
        kind, place_behind = message[place] & 7, place + 1
        if kind not in (0, _LENGTH_DELIMITED) or (read := _read_varint(message, place_behind)) is None:
            break
        number, place_behind = read
        place_behind += number if kind == _LENGTH_DELIMITED else 0
        if place_behind > len(message):
            break
        place = place_behind
    return message[:place]


def _read_varint(message: bytes, place: int) -> tuple[int, int] | None:
    """Return a number, and where it ends; None where there is none."""
    number = 0
    for at, byte in enumerate(message[place : place + 10]):
        number |= (byte & 0x7F) << 7 * at
        if byte < 0x80:
            return number, place + at + 1
    return None
