"""A pipeline document that may be wrong anywhere, as rules look at it: plain values, and what is right among them."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Final, TypeVar

import orjson
import pydantic

from headrace_data.spec.section import Section
from headrace_data.spec.stream import Field
from headrace_data.spec.yaml_tree import Path, Plain

Finding = tuple[Path, str]
"""Where a rule is broken, and how."""
_SectionT = TypeVar("_SectionT", bound=Section)
MAX_COMPARED: Final = 64
"""Names and variants that are compared one with another; more are refused elsewhere, or not worth the time."""
SCHEMA: Final[Path] = ("stream", "schema")
"""Where the fields are."""


@dataclass(frozen=True)
class Draft:
    """A document that may be wrong anywhere."""

    value: Plain

    def at(self, *path: str | int) -> Any:
        """Return the value at a path of keys, or None."""
        value: Any = self.value
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def changed(self, **sections: Plain) -> Draft:
        """Return the document with other sections; its schema is looked at once for both."""
        other = Draft({**self.value, **sections} if isinstance(self.value, dict) else self.value)
        if "stream" not in sections:
            other.__dict__.update(items=self.items, fields=self.fields, complete=self.complete)
        return other

    def section(self, model: type[_SectionT], *path: str) -> _SectionT | None:
        """Return a section when it is right by itself; its defaults when it is left out."""
        return built(model, self.at(*path) if self.at(*path) is not None else {})

    @cached_property
    def items(self) -> list[Any]:
        """The entries of the schema, right or wrong."""
        schema = self.at(*SCHEMA)
        return schema if isinstance(schema, list) else []

    @cached_property
    def fields(self) -> dict[int, Field]:
        """The right entries of the schema by position."""
        entries = ((position, built(Field, item)) for position, item in enumerate(self.items))
        return {position: field for position, field in entries if field is not None}

    @cached_property
    def complete(self) -> bool:
        """Whether every entry of the schema is right."""
        return bool(self.items) and len(self.fields) == len(self.items)

    @cached_property
    def named(self) -> bool:
        """Whether every entry of the schema has a name, so that no other name can be a field."""
        return bool(self.items) and len(self.names) == len(self.items)

    @cached_property
    def names(self) -> list[str]:
        """The names of the schema's entries, of wrong entries too."""
        names = (item.get("name") for item in self.items if isinstance(item, dict))
        return [name for name in names if isinstance(name, str)]

    def field(self, name: object) -> Field | None:
        """Return the right entry with this name."""
        return self._by_name.get(name) if isinstance(name, str) else None

    @cached_property
    def _by_name(self) -> dict[str, Field]:
        # The first entry of a name counts; others have a problem of their own.
        return {field.name: field for field in reversed(self.fields.values())}

    def by_role(self, role: str) -> list[int]:
        """Return the positions of the entries with a role, of wrong entries too."""
        return [
            position for position, item in enumerate(self.items) if isinstance(item, dict) and item.get("role") == role
        ]


def built(model: type[_SectionT], value: object) -> _SectionT | None:
    """Return a section when a plain value is one, else None."""
    try:
        return model.model_validate_json(orjson.dumps(value))
    except (pydantic.ValidationError, orjson.JSONEncodeError):
        return None


def closest(name: str, known: list[str]) -> str:
    """Return a hint about the name that was probably meant, and all known ones when they are few."""
    close = get_close_matches(name, known, n=1) if len(known) <= MAX_COMPARED else []
    hint = "".join(f"; did you mean {match!r}?" for match in close)
    listed = ", ".join(known) if len(known) <= 12 else f"{', '.join(known[:12])} and {len(known) - 12} more"
    return f"expected one of {listed or 'nothing'}{hint}"
