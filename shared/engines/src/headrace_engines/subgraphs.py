"""Finds control flow in serialised ONNX models: operators that run graphs of their own, such as Loop, Scan and If.

The bytes are read in protobuf's wire format (https://protobuf.dev/programming-guides/encoding): weights are passed over
and never copied. Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

_ATTRIBUTES = ((7, 1, 5), (25, 7, 5), (25, 11))
"""Where a ModelProto holds attributes: in nodes of its graph, in nodes of its functions, and as defaults of these."""
_GRAPHS = (6, 11)
"""The fields of an AttributeProto that hold graphs."""
_VARINT, _FIXED_64, _DELIMITED, _FIXED_32 = 0, 1, 2, 5
_FIXED = {_FIXED_64: 8, _FIXED_32: 4}


def has_control_flow(model: bytes) -> bool:
    """Return whether a node of the model's graph or functions has a graph of its own as an attribute.

    The time of such a model may depend on the values of a call. A model in another format counts as one of these.
    """
    try:
        view = memoryview(model)
        return any(_holds(view, (*path, graph)) for path in _ATTRIBUTES for graph in _GRAPHS)
    except (IndexError, ValueError):
        return True


def _holds(message: memoryview, path: tuple[int, ...]) -> bool:
    return any(
        number == path[0] and (len(path) == 1 or _holds(content, path[1:])) for number, content in fields_of(message)
    )


def fields_of(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of the length-delimited fields. Raises IndexError and ValueError for other bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == _VARINT:
            _, place = _varint(message, place)
        elif kind == _DELIMITED:
            size, place = _varint(message, place)
            if size > len(message) - place:
                raise ValueError(f"a field of {size} bytes ends behind its message")
            yield tag >> 3, message[place : place + size]
            place += size
        else:
            place += _FIXED.get(kind) or _unknown(kind)


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    number = shift = 0
    while (byte := message[place]) > 0x7F:
        number |= (byte & 0x7F) << shift
        shift += 7
        place += 1
    return number | byte << shift, place + 1


def _unknown(kind: int) -> int:
    raise ValueError(f"wire type {kind}")
