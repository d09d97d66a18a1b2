"""What cleaning looks for in texts: personal data, and texts that nearly repeat others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_args

import pydantic

from headrace_data.spec.draft import Draft, Finding, closest
from headrace_data.spec.scalars import FieldName
from headrace_data.spec.section import Section

Handling = Literal["keep", "mask", "reject"]
"""What happens to personal data of a kind."""
KINDS: Final = ("email", "iban", "card", "ip", "phone", "secret")
"""The kinds of personal data."""
_MOST: Final = 1024
Names = Annotated[tuple[FieldName, ...], pydantic.Field(min_length=1, max_length=_MOST)]


class Personal(Section):
    """What becomes of personal data in texts, by kind.

    keep: it stays. mask: a placeholder such as `[email]` takes its place before the row is stored. reject: the row
    becomes a dead letter, without these texts. It is found by its form, in time that grows with the text's length;
    names of people are not. Callers' prompts are not masked: what they ask with is theirs.
    """

    fields: Names = pydantic.Field(
        description="The fields that are looked at: texts, and none that identifies, groups or splits records."
    )
    email: Handling = pydantic.Field(default="keep", description="Addresses such as a.b@example.org.")
    iban: Handling = pydantic.Field(
        default="keep", description="Account numbers of the length that their country has, with sound check digits."
    )
    card: Handling = pydantic.Field(
        default="keep", description="Numbers of 13 to 19 digits with a sound check digit, as payment cards have."
    )
    ip: Handling = pydantic.Field(default="keep", description="Addresses of IPv4 and IPv6.")
    phone: Handling = pydantic.Field(
        default="keep",
        description="Numbers in the international form (+44 20 7946 0958), with a leading 0, or as North America "
        "writes them (212-555-0123); of 8 digits or more. Other numbers of that form count, too.",
    )
    secret: Handling = pydantic.Field(
        default="keep",
        exclude_if=lambda value: value == "keep",  # so that specs keep the digests they had before it could be said
        description="Keys and tokens that let somebody in, as AWS, GitHub, GitLab, Slack, Stripe, OpenAI, Google, npm "
        "and Hugging Face write them, and JSON Web Tokens.",
    )

    def kinds(self, handling: Handling) -> tuple[str, ...]:
        """Return the kinds that are handled in a way, in the order in which they are looked for."""
        return tuple(kind for kind in KINDS if getattr(self, kind) == handling)

    def goes_beyond(self, other: Personal | None) -> bool:
        """Return whether this masks or rejects something that another policy, or none, keeps or masks."""
        order: tuple[Handling, ...] = get_args(Handling)
        if other is None or not set(self.fields) <= set(other.fields):
            return len(self.kinds("keep")) < len(KINDS)
        return any(order.index(getattr(self, kind)) > order.index(getattr(other, kind)) for kind in KINDS)


class NearDuplicates(Section):
    """Rows that are left out of the training split of a dataset, because they nearly repeat another of its rows.

    Two rows do when so great a part of the pieces of five letters that either has is in both (Jaccard's index;
    case and white space do not count). It is estimated from 128 hashes a row, to 0.04 or so. Validation and test keep
    their rows. Whatever is left out stays in its segment, and `headrace where` tells of it.
    """

    fields: Names = pydantic.Field(description="The texts that are compared, as one.")
    similarity: Annotated[float, pydantic.Field(ge=0.6, le=1)] = pydantic.Field(
        default=0.8, description="From where on a row nearly repeats another, from 0.6 to 1, where they are the same."
    )
    of: Literal["heldOut", "all"] = pydantic.Field(
        default="all",
        description="heldOut: training rows that nearly repeat one of validation or test, which measures could not be "
        "trusted beside (counted as contaminated). all: those that nearly repeat an earlier training row, too "
        "(counted as nearDuplicates).",
    )


def texts_are_looked_at(draft: Draft) -> Iterator[Finding]:
    """Demand fields that are texts, each once, and where they are changed none that tells rows apart."""
    keys = [draft.at("stream", "key"), draft.at("prepare", "split", "group")]
    for section in ("personal", "nearDuplicates"):
        names: Any = draft.at("prepare", "clean", section, "fields")
        for place, name in enumerate(names[:_MOST] if isinstance(names, list) else ()):
            path = ("prepare", "clean", section, "fields", place)
            field = draft.field(name)
            if field is None:
                if isinstance(name, str) and draft.named and name not in draft.names:
                    yield path, f"unknown field {name!r}; {closest(name, draft.names)}"
            elif field.type != "string":
                yield path, f"expected a text, got {name!r} of type {field.type}"
            elif name in names[:place]:
                yield path, f"expected each field once, got {name!r} again"
            elif section == "personal" and (name in keys or field.role in ("id", "group")):
                yield path, f"expected a text that does not identify, group or split records, got {name!r}"


def something_is_looked_for(draft: Draft) -> Iterator[Finding]:
    """Demand a kind of personal data that is not kept."""
    personal = draft.at("prepare", "clean", "personal")
    if isinstance(personal, dict) and all(personal.get(kind, "keep") == "keep" for kind in KINDS):
        yield ("prepare", "clean", "personal"), f"expected a kind to mask or reject, got none of {', '.join(KINDS)}"
