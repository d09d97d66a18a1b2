"""Personal data that a sample holds, by field, and what a draft proposes to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from headrace_data.spec.private_fields import Treatment

from headrace_client.drafting.observing import Observed
from headrace_client.drafting.roles import Roles
from headrace_client.yaml_texts import scalar

KEY: Final = "people"
"""What a proposal calls the key."""
MOST_FOUND: Final = 20
"""Fields that a draft and the command name."""
_ID_SHARE: Final = 0.5
"""Share of the records in which an id or a group holds personal data, from which on it counts: one number of 16 digits
in ten has a sound check digit."""


def personal_fields(roles: Roles) -> list[tuple[Observed, Treatment]]:
    """Return the fields that hold personal data, with the treatment that is proposed for each."""
    found: list[tuple[Observed, Treatment]] = []
    for placed in roles.placed:
        names = placed.role in ("id", "group")
        if placed.field.personal and (not names or _mostly(placed.field)):
            found.append((placed.field, "hash" if names else "mask"))
    return found + [(field, "drop") for field in roles.left_out if field.personal and _counts(field)]


def proposal(roles: Roles) -> Iterator[str]:
    """Yield comment lines that propose `stream.personal`; none where nothing was found."""
    found = personal_fields(roles)
    if not found:
        return
    yield "  # Personal data was found by its form, as emails and cards have one; names of people are not. Records are"
    yield "  # stored as they come unless this says what becomes of these fields; the key is a file that you mount."
    yield from (f"  #   {scalar(field.name)}: {told(field.personal)}" for field, _ in found[:MOST_FOUND])
    if len(found) > MOST_FOUND:
        yield f"  #   and {len(found) - MOST_FOUND} fields more"
    fields = ", ".join(f"{scalar(field.name)}: {treatment}" for field, treatment in found[:MOST_FOUND])
    key = f"key: {KEY}, " if any(treatment == "hash" for _, treatment in found[:MOST_FOUND]) else ""
    yield f"  # personal: {{{key}fields: {{{fields}}}}}"


def told(personal: Mapping[str, int]) -> str:
    """Return in words what was found in a field."""
    return ", ".join(f"{kind} {count}" for kind, count in personal.items())


def _mostly(field: Observed) -> bool:
    return max(field.personal.values()) >= _ID_SHARE * field.records


def _counts(field: Observed) -> bool:
    # What names something was left out for that, and is judged as an id is.
    return "free text" in field.reason or _mostly(field)
