"""JSON schemas that an answer is made to follow: which ones can be, in how much time and memory.

The engine makes a grammar of a schema while all other answers wait, and ends with them where it cannot. So only what it
is known to understand goes in, of bounded size; whatever says nothing about the form of an answer is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from headrace_engines.errors import Unanswerable

_LARGEST: Final = 16_384
_MOST_PARTS: Final = 256
_DEEPEST: Final = 16
_MOST_VALUES: Final = 256
_LONGEST_VALUE: Final = 256
_LONGEST_TEXT: Final = 64
"""A text of bounded length takes 13 ms of CPU for each character of its bound."""
_LONGEST_TEXTS: Final = 128
_MOST_ITEMS: Final = 256
_LARGEST_NUMBER: Final = 2**53
_NOTES: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$comment"}
)
_TYPES: Final = ("object", "array", "string", "integer", "number", "boolean", "null")

_NAME: Final = re.compile(r"[\w .$@-]{1,128}")
"""The engine ends with a property whose name has quotes or backslashes."""
_BOUNDS: Final = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minimum", "maximum"))
_NUMBERS: Final = frozenset({"integer", "number"})
_OF_TYPES: Final = {
    "properties": frozenset({"object"}),
    "required": frozenset({"object"}),
    "additionalProperties": frozenset({"object"}),
    "items": frozenset({"array"}),
    "minItems": frozenset({"array"}),
    "maxItems": frozenset({"array"}),
    "minLength": frozenset({"string"}),
    "maxLength": frozenset({"string"}),
    "minimum": _NUMBERS,
    "maximum": _NUMBERS,
}
"""Which types a key says something of. The engine reads it by the type, and leaves it out without one."""

Schema = dict[str, Any]


def followed(schema: str) -> str:
    """Return what of a schema the engine is told.

    Raises Unanswerable, with the place, for what is no schema, is too large, or asks for what cannot be followed.
    """
    if len(schema) > _LARGEST:
        raise Unanswerable(f"schema: expected at most {_LARGEST} characters, got {len(schema)}")
    try:
        told = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise Unanswerable(f"schema: expected JSON, got {error}") from error
    return json.dumps(_Reading(told).read(), separators=(",", ":"))


class _Reading:
    def __init__(self, told: Any) -> None:
        self._told = told
        self._parts = 0
        self._letters = 0
        self._keys: Mapping[str, Callable[[Any, str, int], Any]] = {
            "properties": self._properties,
            "items": self._part,
            "anyOf": self._choices,
            "oneOf": self._choices,
            "additionalProperties": self._additional,
        }

    def read(self) -> Schema:
        """Return the schema with its references in their places."""
        return self._part(self._told, "schema", 0)

    def _part(self, told: Any, place: str, depth: int) -> Schema:
        self._parts += 1
        if self._parts > _MOST_PARTS or depth > _DEEPEST:
            raise Unanswerable(f"{place}: expected at most {_MOST_PARTS} parts, {_DEEPEST} deep, got more")
        if not isinstance(told, dict):
            raise Unanswerable(f"{place}: expected an object, got {str(told)[:40]}")
        if "$ref" in told:
            # A chain that leads back to itself becomes too deep.
            return self._part(self._at(told["$ref"], place), place, depth + 1)
        found: Schema = {}
        for key, value in told.items():
            if key in self._keys:
                found[key] = self._keys[key](value, f"{place}.{key}", depth + 1)
            elif key in _VALUES:
                found[key] = _VALUES[key](value, f"{place}.{key}")
            elif key not in _NOTES and key not in ("$defs", "definitions"):
                raise Unanswerable(f"{place}: expected no {str(key)[:40]!r}, which no answer can be made to follow")
        self._require_sense(found, place)
        return found

    def _at(self, reference: Any, place: str) -> Any:
        found = self._told
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise Unanswerable(f"{place}.$ref: expected a place in the same schema, as #/$defs/name, got {reference!r}")
        for step in reference[2:].split("/"):
            if not isinstance(found, dict) or step not in found:
                raise Unanswerable(f"{place}.$ref: expected a place in the same schema, got {reference[:80]!r}")
            found = found[step]
        return found

    def _properties(self, told: Any, place: str, depth: int) -> Schema:
        if not isinstance(told, dict):
            raise Unanswerable(f"{place}: expected an object of schemas")
        for name in told:
            if not _NAME.fullmatch(name):
                raise Unanswerable(f"{place}: expected names of letters, digits, spaces and -_.$@, got {name[:40]!r}")
        return {name: self._part(value, f"{place}.{name}", depth) for name, value in told.items()}

    def _choices(self, told: Any, place: str, depth: int) -> list[Schema]:
        if not isinstance(told, list) or not told:
            raise Unanswerable(f"{place}: expected a list of schemas")
        return [self._part(value, f"{place}.{number}", depth) for number, value in enumerate(told)]

    def _additional(self, told: Any, place: str, depth: int) -> bool | Schema:
        return told if isinstance(told, bool) else self._part(told, place, depth)

    def _require_sense(self, found: Schema, place: str) -> None:
        types = found.get("type", [])
        for key, kinds in _OF_TYPES.items():
            if key in found and not kinds.intersection([types] if isinstance(types, str) else types):
                raise Unanswerable(f"{place}.{key}: expected type {' or '.join(sorted(kinds))} beside it, got {types}")
        for least, most in _BOUNDS:
            if least in found and most in found and found[least] > found[most]:
                raise Unanswerable(f"{place}: expected {least} of at most {most}, got {found[least]}")
        if "integer" in types and not all(float(found.get(key, 0)).is_integer() for key in ("minimum", "maximum")):
            raise Unanswerable(f"{place}: expected whole numbers as bounds of an integer")
        if found.get("minItems") and "items" not in found:
            raise Unanswerable(f"{place}.minItems: expected items beside it, got none")
        self._letters += max(found.get("minLength", 0), found.get("maxLength", 0))
        if self._letters > _LONGEST_TEXTS:
            raise Unanswerable(f"{place}: expected lengths of {_LONGEST_TEXTS} characters in all, got more")
        if astray := [name for name in found.get("required", []) if name not in found.get("properties", {})]:
            raise Unanswerable(f"{place}.required: expected names of its properties, got {astray[0]}")


def _text(told: Any, place: str) -> str:
    if not isinstance(told, str) or len(told) > _LONGEST_VALUE or not told.isprintable():
        raise Unanswerable(f"{place}: expected a printable text of at most {_LONGEST_VALUE} characters")
    return told


def _texts(told: Any, place: str) -> list[str]:
    if not isinstance(told, list) or len(told) > _MOST_VALUES:
        raise Unanswerable(f"{place}: expected a list of at most {_MOST_VALUES} texts")
    return [_text(each, place) for each in told]


def _value(told: Any, place: str) -> Any:
    if told is None or isinstance(told, bool):
        return told
    if isinstance(told, int | float):
        return _number(told, place)
    return _text(told, place)


def _values(told: Any, place: str) -> list[Any]:
    if not isinstance(told, list) or not 1 <= len(told) <= _MOST_VALUES:
        raise Unanswerable(f"{place}: expected a list of 1 to {_MOST_VALUES} values")
    return [_value(each, place) for each in told]


def _number(told: Any, place: str) -> int | float:
    if isinstance(told, bool) or not isinstance(told, int | float) or not abs(told) <= _LARGEST_NUMBER:
        raise Unanswerable(f"{place}: expected a number of at most {_LARGEST_NUMBER}")
    return told


def _whole(most: int) -> Callable[[Any, str], int]:
    def read(told: Any, place: str) -> int:
        if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told <= most:
            raise Unanswerable(f"{place}: expected a whole number, 0 to {most}, got {str(told)[:40]}")
        return told

    return read


def _types(told: Any, place: str) -> Any:
    wanted = told if isinstance(told, list) else [told]
    if not wanted or not all(isinstance(each, str) and each in _TYPES for each in wanted):
        raise Unanswerable(f"{place}: expected {', '.join(_TYPES)}, got {str(told)[:40]}")
    return told


_VALUES: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "type": _types,
    "enum": _values,
    "const": _value,
    "required": _texts,
    "minLength": _whole(_LONGEST_TEXT),
    "maxLength": _whole(_LONGEST_TEXT),
    "minItems": _whole(_MOST_ITEMS),
    "maxItems": _whole(_MOST_ITEMS),
    "minimum": _number,
    "maximum": _number,
}
