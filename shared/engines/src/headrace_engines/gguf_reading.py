"""Reads what a GGUF file says of itself: its metadata, and where each tensor lies.

It is bounded, so that any file may be read. The native reader of an engine believes what a file says, sizes and types
alike.


Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from headrace_engines.beside import Graph
from headrace_engines.errors import NotAModel

Value = int | float | bool | str | list[int] | list[float] | list[bool] | list[str]
_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_MOST_TENSORS, _MOST_KEYS, _MOST_NAME = 65_536, 4_096, 256
_MOST_TEXT, _MOST_ITEMS = 16 * 1024 * 1024, 2_000_000
_MOST_DIMENSIONS, _LARGEST_DIMENSION = 4, 2**31 - 1
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Formats of `struct` by the types of values."""
_STRING, _LIST = 8, 9
U32: Final = 4
I32: Final = 5
F32: Final = 6


class TensorType(NamedTuple):
    """How the numbers of a tensor are stored: blocks of so many numbers, in so many bytes."""

    name: str
    numbers: int
    size_bytes: int


TENSOR_TYPES: Final[Mapping[int, TensorType]] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    8: TensorType("Q8_0", 32, 34),
    12: TensorType("Q4_K", 256, 144),
    14: TensorType("Q6_K", 256, 210),
}
"""The types that can be computed with, by their numbers in the format."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies in the file."""

    type: TensorType
    shape: tuple[int, ...]
    """Sizes, the slowest first: rows and columns of a matrix."""
    start: int
    """Its first byte, from the beginning of the file."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a GGUF file says of itself."""

    metadata: Mapping[str, Value]
    kinds: Mapping[str, int]
    """The number of each key's type in the format; of a list, its items' and `LISTS` more."""
    tensors: Mapping[str, StoredTensor]


LISTS: Final = 100


def read_gguf(graph: Graph) -> GgufFile:
    """Return what a file says of itself.

    Raises NotAModel for what is no whole GGUF file, OSError where there is none.
    """
    if isinstance(graph, bytes):
        return _read(memoryview(graph))
    with Path(graph).open("rb") as file:
        if not (size := graph.stat().st_size):
            raise NotAModel(f"expected a GGUF file in {graph}, got an empty one")
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            return _read(view)


def _read(data: memoryview) -> GgufFile:
    try:
        return _Reader(data).read()
    except (struct.error, UnicodeDecodeError) as error:
        raise NotAModel(
            f"expected a whole GGUF file, got one that ends early or holds other bytes ({error})"
        ) from error


class _Reader:
    """Reads from the beginning on, and never behind the end."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._place = 0

    def read(self) -> GgufFile:
        magic, version = bytes(self._data[:4]), self._after(4).number("I")
        if magic != _MAGIC or version not in _VERSIONS:
            raise NotAModel(f"expected a GGUF file of version 2 or 3, got {magic!r} of version {version}")
        tensors, keys = self.number("Q"), self.number("Q")
        _bounded("tensors", tensors, _MOST_TENSORS)
        _bounded("keys", keys, _MOST_KEYS)
        metadata: dict[str, Value] = {}
        kinds: dict[str, int] = {}
        for _ in range(keys):
            key = self._text(_MOST_NAME)
            if key in metadata:
                raise NotAModel(f"expected each key once, got {key} twice")
            metadata[key], kinds[key] = self._value()
        return GgufFile(metadata, kinds, self._tensors(tensors, _alignment(metadata)))

    def number(self, kind: str) -> int:
        """Return the next whole number."""
        (found,) = struct.unpack_from(f"<{kind}", self._data, self._place)
        self._place += struct.calcsize(f"<{kind}")
        return int(found)

    def _after(self, place: int) -> _Reader:
        self._place = place
        return self

    def _value(self) -> tuple[Value, int]:
        kind = self.number("I")
        if kind != _LIST:
            return self._scalar(kind), kind
        kind, items = self.number("I"), self.number("Q")
        _bounded("items of a list", items, _MOST_ITEMS)
        if kind == _STRING:
            return [self._text(_MOST_TEXT) for _ in range(items)], LISTS + kind
        form = f"<{items}{_form(kind)}"
        found = list(struct.unpack_from(form, self._data, self._place))
        self._place += struct.calcsize(form)
        return found, LISTS + kind

    def _scalar(self, kind: int) -> int | float | bool | str:
        if kind == _STRING:
            return self._text(_MOST_TEXT)
        form = f"<{_form(kind)}"
        (found,) = struct.unpack_from(form, self._data, self._place)
        self._place += struct.calcsize(form)
        return found  # type: ignore[no-any-return]

    def _text(self, most: int) -> str:
        size = self.number("Q")
        _bounded("bytes of a text", size, min(most, len(self._data) - self._place))
        self._place += size
        return bytes(self._data[self._place - size : self._place]).decode()

    def _tensors(self, count: int, alignment: int) -> dict[str, StoredTensor]:
        told = {}
        for _ in range(count):
            name = self._text(_MOST_NAME)
            if name in told:
                raise NotAModel(f"expected each tensor once, got {name} twice")
            told[name] = self._tensor(name)
        begin = -(-self._place // alignment) * alignment
        found = {}
        for name, (kind, shape, offset) in told.items():
            size = _size(name, kind, shape)
            if offset % alignment or begin + offset + size > len(self._data):
                raise NotAModel(
                    f"{name}: expected {size} bytes at a multiple of {alignment}, got {offset} in a file that ends"
                    f" {len(self._data) - begin} bytes behind its header"
                )
            found[name] = StoredTensor(kind, shape, begin + offset, size)
        return found

    def _tensor(self, name: str) -> tuple[TensorType, tuple[int, ...], int]:
        dimensions = self.number("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise NotAModel(f"{name}: expected 1 to {_MOST_DIMENSIONS} dimensions, got {dimensions}")
        shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]
        if not all(1 <= size <= _LARGEST_DIMENSION for size in shape):
            raise NotAModel(f"{name}: expected sizes of 1 to {_LARGEST_DIMENSION}, got {shape}")
        kind = self.number("I")
        if kind not in TENSOR_TYPES:
            known = ", ".join(each.name for each in TENSOR_TYPES.values())
            raise NotAModel(f"{name}: expected a tensor of type {known}, got type number {kind}")
        return TENSOR_TYPES[kind], shape, self.number("Q")


def _bounded(what: str, given: int, most: int) -> None:
    if given > most:
        raise NotAModel(f"expected at most {most} {what}, got {given}")


def _form(kind: int) -> str:
    if kind not in _SCALARS:
        raise NotAModel(f"expected a value of a known type, got type number {kind}")
    return _SCALARS[kind]


def _alignment(metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if alignment not in (8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096):
        raise NotAModel(f"general.alignment: expected a power of two from 8 to 4096, got {alignment}")
    return int(alignment)


def _size(name: str, kind: TensorType, shape: tuple[int, ...]) -> int:
    if shape[-1] % kind.numbers:
        raise NotAModel(f"{name}: expected rows of a multiple of {kind.numbers} numbers for {kind.name}, got {shape}")
    numbers = 1
    for size in shape:
        numbers *= size
    return numbers // kind.numbers * kind.size_bytes
