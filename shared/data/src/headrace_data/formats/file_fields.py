"""Which field takes what is in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from headrace_data.errors import SelectInvalid
from headrace_data.formats.image import PIXELS, image_form
from headrace_data.formats.schemas import SchemaInvalid
from headrace_data.formats.sound import SAMPLES, sound_form
from headrace_data.select.checking import Schema
from headrace_data.select.needs import whole_fields


@dataclass(frozen=True)
class Taken:
    """What a field takes of a file."""

    key: str
    """Of the value, in a row."""
    look: Callable[[Sequence[int] | None], object]
    """Looks at the field's shape, None where there is no field. Raises SchemaInvalid."""
    types: tuple[str, ...]
    """Types that hold it."""


_FLOATS: Final = ("float32", "float64")
FILES: Final[Mapping[str, Taken]] = {
    "image": Taken(PIXELS, image_form, ("uint8", "int16", "uint16", "int32", "uint32", "int64", *_FLOATS)),
    "sound": Taken(SAMPLES, sound_form, _FLOATS),
}
"""By the kinds of formats whose values are files."""

_MOST_ELEMENTS: Final = 2**24
_MOST_DECODED: Final = 2**21


def rows_together(schema: Schema) -> int:
    """Return how many rows of files are held at a time: a few bytes may be millions of pixels."""
    return max(1, _MOST_ELEMENTS // sum(prod(field.shape) for field in schema.fields))


def rows_decoded(schema: Schema) -> int:
    """Return how many files are decoded at a time: until they are columns, an element takes eight bytes and more."""
    return max(1, _MOST_DECODED // sum(prod(field.shape) for field in schema.fields))


def file_problem(kind: str, schema: Schema) -> str:
    """Return why no field takes what is in a stream's files; empty where one does, or its SELECT is wrong."""
    taken = FILES[kind]
    try:
        field = whole_fields(schema).get(taken.key)
        taken.look(None if field is None else field.shape)
    except SelectInvalid:
        return ""
    except SchemaInvalid as error:
        return str(error)
    if field is not None and field.type not in taken.types:
        return f"expected {', '.join(taken.types)} as the type of {field.name}, got {field.type}"
    return ""
