"""Rules that concern more than one key of a pipeline document.

They work on the document's plain values, not on a built `Pipeline`, so that they speak up even when another part of the
document is wrong. A rule that needs a part which is wrong itself stays silent: that part has its own problem already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import islice
from typing import Any, Final, TypeVar, get_args

import numpy as np
import orjson
import pydantic

from headrace_data.spec.prepare import MAX_TRANSFORMS, Clean, Split
from headrace_data.spec.section import Section
from headrace_data.spec.stream import Field, Role
from headrace_data.spec.yaml_tree import Path, Plain

Finding = tuple[Path, str]
"""Where a rule is broken, and how."""
_SectionT = TypeVar("_SectionT", bound=Section)
_MAX_ELEMENTS: Final = 2**20
_MAX_COMPARED: Final = 64
"""Names and variants that are compared one with another; more are refused elsewhere, or not worth the time."""
_SCHEMA: Final[Path] = ("stream", "schema")


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

    def section(self, model: type[_SectionT], *path: str) -> _SectionT | None:
        """Return a section when it is right by itself; its defaults when it is left out."""
        return _built(model, self.at(*path) if self.at(*path) is not None else {})

    @cached_property
    def items(self) -> list[Any]:
        """The entries of the schema, right or wrong."""
        schema = self.at(*_SCHEMA)
        return schema if isinstance(schema, list) else []

    @cached_property
    def fields(self) -> dict[int, Field]:
        """The right entries of the schema by position."""
        built = ((position, _built(Field, item)) for position, item in enumerate(self.items))
        return {position: field for position, field in built if field is not None}

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


def _built(model: type[_SectionT], value: object) -> _SectionT | None:
    try:
        return model.model_validate_json(orjson.dumps(value))
    except (pydantic.ValidationError, orjson.JSONEncodeError):
        return None


def closest(name: str, known: list[str]) -> str:
    """Return a hint about the name that was probably meant, and all known ones when they are few."""
    close = get_close_matches(name, known, n=1) if len(known) <= _MAX_COMPARED else []
    hint = "".join(f"; did you mean {match!r}?" for match in close)
    listed = ", ".join(known) if len(known) <= 12 else f"{', '.join(known[:12])} and {len(known) - 12} more"
    return f"expected one of {listed or 'nothing'}{hint}"


def names_are_unique(draft: Draft) -> Iterator[Finding]:
    """Demand that a name stands for one field."""
    seen: dict[str, int] = {}
    for position, item in enumerate(draft.items):
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str) and seen.setdefault(name, position) != position:
            first = f"schema[{seen[name]}]"
            yield (*_SCHEMA, position, "name"), f"expected a name of its own, got {name!r}, which {first} has already"


def roles_are_complete(draft: Draft) -> Iterator[Finding]:
    """Demand one label, at least one feature, at most one id and at most one group."""
    for role in ("label", "id", "group"):
        first, *others = draft.by_role(role) or [0]
        for position in others:
            yield (
                (*_SCHEMA, position, "role"),
                f"expected one field with role {role}, got another beside schema[{first}]",
            )
    roles = [item.get("role") if isinstance(item, dict) else None for item in draft.items]
    if roles and all(role in get_args(Role) for role in roles):
        if "label" not in roles:
            yield _SCHEMA, "expected one field with role label, got none"
        if "feature" not in roles:
            yield _SCHEMA, "expected at least one field with role feature, got none"


def types_fit_roles(draft: Draft) -> Iterator[Finding]:
    """Demand types and shapes that suit what a field is for."""
    for position, field in draft.fields.items():
        place = (*_SCHEMA, position)
        if field.role == "feature" and field.type == "string":
            yield (*place, "type"), "expected a number type: string is for roles id, group and label at this stage"
        if field.role != "feature" and field.type in ("float32", "float64"):
            yield (*place, "type"), f"expected an integer type or string for role {field.role}, got {field.type}"
        if field.role != "feature" and field.shape:
            yield (*place, "shape"), f"expected a single value for role {field.role}, got shape {list(field.shape)}"
        if field.size > _MAX_ELEMENTS:
            yield (*place, "shape"), f"expected at most {_MAX_ELEMENTS} elements, got {field.size}"


def ranges_fit_types(draft: Draft) -> Iterator[Finding]:
    """Demand that a range is for numbers and that its ends are values of the field's type."""
    for position, field in draft.fields.items():
        place = (*_SCHEMA, position, "range")
        if field.range is None:
            continue
        if field.type == "string":
            yield place, "expected no range for type string"
            continue
        limits = np.finfo(field.type) if field.type.startswith("float") else np.iinfo(field.type)
        for end, bound in enumerate(field.range):
            if not float(limits.min) <= bound <= float(limits.max):
                yield (*place, end), f"expected a value of type {field.type}, got {bound}"


def missing_values_have_a_rule(draft: Draft) -> Iterator[Finding]:
    """Demand that rows without a feature or label are dropped, because nothing fills the gap."""
    clean = draft.section(Clean, "prepare", "clean")
    if clean is None or clean.missing == "drop":
        return
    for position, field in draft.fields.items():
        if field.nullable and field.role in ("feature", "label"):
            reason = f"expected false for a {field.role} while prepare.clean.missing is keep, got true"
            yield (*_SCHEMA, position, "nullable"), reason


def _names_a_field(draft: Draft, place: Path, name: object) -> Iterator[Finding]:
    """Demand that a field which identifies or groups rows exists, is one integer or text, and is never missing."""
    if not isinstance(name, str):
        return
    if name not in draft.names:
        if draft.named:
            yield place, f"unknown field {name!r}; {closest(name, draft.names)}"
        return
    field = draft.field(name)
    if field is None:
        return
    if field.shape or field.type in ("float32", "float64"):
        yield place, f"expected a field of one integer or string, got {name!r} of type {field.type}"
    elif field.nullable:
        yield place, f"expected a field that is always there, got {name!r}, which is nullable"


def key_names_a_field(draft: Draft) -> Iterator[Finding]:
    """Demand that records are identified by a field that is always there."""
    key = draft.at("stream", "key")
    if key is not None:
        yield from _names_a_field(draft, ("stream", "key"), key)
    elif len(draft.by_role("id")) == 1:
        position = draft.by_role("id")[0]
        yield from _names_a_field(draft, (*_SCHEMA, position, "nullable"), draft.items[position].get("name"))


def split_names_a_field(draft: Draft) -> Iterator[Finding]:
    """Demand that rows are divided by a field that is always there."""
    group = draft.at("prepare", "split", "group")
    if group is not None:
        yield from _names_a_field(draft, ("prepare", "split", "group"), group)
        return
    for role in ("group", "id"):
        if positions := draft.by_role(role):
            # The id was looked at by the rule for keys already, unless another field is the key.
            if role == "group" or draft.at("stream", "key") is not None:
                name = draft.items[positions[0]].get("name")
                yield from _names_a_field(draft, (*_SCHEMA, positions[0], "nullable"), name)
            return
    if draft.complete:
        yield _SCHEMA, "expected a field to split by: one with role id or group, or prepare.split.group; got none"


def fractions_sum_to_one(draft: Draft) -> Iterator[Finding]:
    """Demand that the three splits share all rows."""
    split = draft.section(Split, "prepare", "split")
    if split is None:
        return
    total = math.fsum((split.train, split.validation, split.test))
    if abs(total - 1) > 1e-9:
        yield ("prepare", "split"), f"expected train, validation and test to sum to 1, got {total:g}"


def transforms_name_features(draft: Draft) -> Iterator[Finding]:
    """Demand that only features are scaled."""
    transform = draft.at("prepare", "transform")
    features = [draft.items[position].get("name") for position in draft.by_role("feature")]
    known = [name for name in features if isinstance(name, str)]
    for name in islice(transform, MAX_TRANSFORMS) if isinstance(transform, dict) else ():
        place = ("prepare", "transform", name)
        if name in known:
            continue
        if field := draft.field(name):
            yield place, f"expected a feature, got {name!r} with role {field.role}"
        elif draft.named and name not in draft.names:
            yield place, f"unknown feature {name!r}; {closest(name, known)}"


def cnn_has_one_image(draft: Draft) -> Iterator[Finding]:
    """Demand exactly one feature with two or three dimensions for a convolutional network."""
    if draft.at("train", "network", "kind") != "cnn" or not draft.complete:
        return
    shapes = [list(field.shape) for field in draft.fields.values() if field.role == "feature"]
    place = ("train", "network", "kind")
    if len(shapes) > 1:
        yield (
            place,
            f"cnn expects exactly one feature of shape [height, width] or [channels, height, width], got {len(shapes)}",
        )
    elif shapes and len(shapes[0]) not in (2, 3):
        yield place, f"cnn expects a feature of shape [height, width] or [channels, height, width], got {shapes[0]}"


def variants_are_different(draft: Draft) -> Iterator[Finding]:
    """Demand that a variant is made once."""
    variants = draft.at("compress", "variants")
    if not isinstance(variants, list) or len(variants) > _MAX_COMPARED:
        return
    for position, variant in enumerate(variants):
        if variant in variants[:position]:
            yield ("compress", "variants", position), "expected each variant once, got it again"


def duplicates_have_a_key(draft: Draft) -> Iterator[Finding]:
    """Demand a key from who asks for duplicates to be dropped. For documents only: defaults ask for nothing."""
    if draft.at("prepare", "clean", "duplicates") != "drop" or not draft.complete:
        return
    if draft.at("stream", "key") is None and not draft.by_role("id"):
        yield ("prepare", "clean", "duplicates"), "drop expects stream.key or a field with role id, got neither"


RULES: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (
    names_are_unique,
    roles_are_complete,
    types_fit_roles,
    ranges_fit_types,
    missing_values_have_a_rule,
    key_names_a_field,
    split_names_a_field,
    fractions_sum_to_one,
    transforms_name_features,
    cnn_has_one_image,
    variants_are_different,
)
"""The rules of every spec."""
