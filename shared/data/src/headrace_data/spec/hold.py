"""When rows are suspected before anything learns from them: bounds that no honest change of the world oversteps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import pydantic

from headrace_data.spec.draft import Draft, Finding, closest
from headrace_data.spec.scalars import FieldName, Fraction
from headrace_data.spec.section import Section

_EXEMPT: Final = ("prepare", "hold", "exempt")
_MOST: Final = 1024
Factor = Annotated[float, pydantic.Field(gt=1, le=1e12)]
"""By how much something may change, up or down."""


class Hold(Section):
    """When what a cut brings is held back: compared with the newest segments before, something broke.

    Held segments are part of no dataset until somebody accepts them. Whatever changes less is trained on.
    """

    rejected: Fraction = pydantic.Field(
        default=0.5,
        description="Part of the records that may begin to be rejected, of those that were not before. Not counted are "
        "duplicates, rows without a label in time, and records of keys that were forgotten.",
    )
    missing: Fraction = pydantic.Field(
        default=0.5,
        description="Part of a field's values that may begin to be missing, of those that were there before.",
    )
    factor: Factor = pydantic.Field(
        default=10.0,
        description="By what factor the scale of a number may change (how wide its central values lie), or its median "
        "where that moves by as many scales, too: beyond, its unit is another one, or it is stuck.",
    )
    exempt: Annotated[tuple[FieldName, ...], pydantic.Field(max_length=_MOST)] = pydantic.Field(
        default=(), description="Fields that nothing is suspected of, whatever they do."
    )


def exempt_are_fields(draft: Draft) -> Iterator[Finding]:
    """Demand fields of the schema, each once."""
    names: Any = draft.at(*_EXEMPT)
    for place, name in enumerate(names[:_MOST] if isinstance(names, list) else ()):
        if isinstance(name, str) and draft.named and name not in draft.names:
            yield (*_EXEMPT, place), f"unknown field {name!r}; {closest(name, draft.names)}"
        elif name in names[:place]:
            yield (*_EXEMPT, place), f"expected each field once, got {name!r} again"
