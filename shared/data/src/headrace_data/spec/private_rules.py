"""Rules about `stream.personal`: which fields can be treated how, and where a key is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from headrace_data.spec.draft import Draft, Finding, closest
from headrace_data.spec.private_fields import KEYED, MOST_FIELDS

_PLACE: Final = ("stream", "personal")
_FIELDS: Final = (*_PLACE, "fields")


def personal_fields_can_be_treated(draft: Draft) -> Iterator[Finding]:
    """Demand fields that a treatment leaves some sense in, and none that is learned from what nobody can send."""
    said: Any = draft.at(*_FIELDS)
    for name, treatment in list(said.items())[:MOST_FIELDS] if isinstance(said, dict) else ():
        yield from _dropped(draft, name) if treatment == "drop" else _kept(draft, name, treatment)


def _dropped(draft: Draft, name: str) -> Iterator[Finding]:
    if name in draft.names:
        yield (*_FIELDS, name), f"expected a field that is not in the schema, which would have no value, got {name!r}"
    elif name == draft.at("stream", "time"):
        yield (*_FIELDS, name), f"expected a field that is not stream.time, which is stored, got {name!r}"


def _kept(draft: Draft, name: str, treatment: object) -> Iterator[Finding]:
    path, field = (*_FIELDS, name), draft.field(name)
    if field is None:
        if draft.named and name not in draft.names:
            yield path, f"unknown field {name!r}; {closest(name, draft.names)}"
        return
    if field.type != "string" or field.shape:
        yield path, f"expected a field of type string, got {name!r} of type {field.type}"
    names = (draft.at("stream", "key"), draft.at("prepare", "split", "group"))
    identifies = field.role in ("id", "group")
    if treatment in KEYED and not identifies:
        yield path, f"expected an id or a group, as nothing is learned from such values, got role {field.role}"
    if treatment == "mask" and (identifies or name in names):
        yield path, f"expected a text that does not identify, group or split records, got {name!r}"
    looked_at = draft.at("prepare", "clean", "personal", "fields")
    if treatment == "mask" and isinstance(looked_at, list) and name in looked_at:
        place = ("prepare", "clean", "personal", "fields", looked_at.index(name))
        yield place, f"expected a field that stream.personal does not mask already, got {name!r}"


def keys_are_named_where_they_are_used(draft: Draft) -> Iterator[Finding]:
    """Demand a key from who hashes or tokenises, and none from who does not."""
    said, key = draft.at(*_FIELDS), draft.at(*_PLACE, "key")
    if not isinstance(said, dict):
        return
    keyed = [name for name, treatment in said.items() if treatment in KEYED]
    if keyed and key is None:
        yield _PLACE, f"expected a key, the name of what {keyed[0]!r} is treated with, got none"
    if key is not None and not keyed:
        yield (*_PLACE, "key"), f"expected none where nothing is hashed or tokenised, got {key!r}"


PRIVATE_RULES: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (
    personal_fields_can_be_treated,
    keys_are_named_where_they_are_used,
)
