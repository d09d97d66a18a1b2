"""What a SELECT reads of records: for files, whose columns do not say what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headrace_data.select.checking import Schema, Wanted, compiled, text_without
from headrace_data.select.engine import quoted
from headrace_data.select.tree import Leaf


@dataclass(frozen=True)
class Needs:
    """The keys of a record that a SELECT reads."""

    texts: dict[str, bool]
    """By key, whether its value is read as a text alone."""
    of: dict[str, tuple[str, ...]]
    """The keys that each value of a row is made of."""


def needs_of(schema: Schema) -> Needs:
    """Return what a stream's SELECT reads of a record. Raises SelectInvalid."""
    made = compiled(schema)
    strings = {field.name for field in schema.fields if field.type == "string"}
    texts: dict[str, bool] = {}
    of: dict[str, tuple[str, ...]] = {}
    read: list[tuple[str, tuple[Leaf, ...], bool]] = [
        (name, (leaf,), name in strings) for name, leaf in made.taken.items()
    ]
    read += [(each.name, each.leaves, True) for each in made.computed]
    for name, leaves, is_text in read:
        for key, whole in _keys(leaves):
            texts[key] = texts.get(key, True) and is_text and whole
        of[name] = tuple(dict.fromkeys(key for key, _ in _keys(leaves)))
    return Needs(texts, of)


def whole_fields(schema: Schema) -> dict[str, Wanted]:
    """Return the fields of a stream that are a value of the record as it is, by its key. Raises SelectInvalid."""
    if schema.select is None:
        return {field.name: field for field in schema.fields}
    taken = compiled(schema).taken
    found = ((taken.get(field.name), field) for field in schema.fields)
    return {
        str(leaf.path[0]): field
        for leaf, field in found
        if leaf is not None and not leaf.of_message and len(leaf.path) == 1
    }


def _keys(leaves: tuple[Leaf, ...]) -> Iterator[tuple[str, bool]]:
    """Yield the keys that paths begin with, and whether they end there."""
    for leaf in leaves:
        if not leaf.of_message:
            yield str(leaf.path[0]), len(leaf.path) == 1


def select_with(schema: Schema, name: str, in_place_of: str | None = None) -> str | None:
    """Return a stream's SELECT with a key of the record beside its values, as it is; None where there is no SELECT.

    Where it has a value of the name `in_place_of`, that is left out.
    """
    if schema.select is None:
        return None
    names = compiled(schema).names
    text = schema.select if in_place_of not in names else text_without(schema, in_place_of or "")
    return text if name in names else f"{text.rstrip(' ,;')}\n, {quoted(name)} AS {quoted(name)}"
