"""What cleaning looks for in rows: values that are missing, and values far from all others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_args

import pydantic

from headrace_data.spec.draft import Draft, Finding, closest
from headrace_data.spec.section import Section
from headrace_data.spec.texts import Names

Policy = Literal["drop", "keep"]
"""What happens to the rows that a cleaning rule hits."""
_MISSING: Final = ("prepare", "clean", "missing")
_OUTLIERS: Final = ("prepare", "clean", "outliers")
_MOST: Final = 1024


class Gaps(Section):
    """Rows that are dropped for some fields that have no value: null, or a blank text. Others are kept with their gaps.

    With both, a row is dropped that breaks either.
    """

    any: Names | None = pydantic.Field(default=None, description="Rows in which one of these fields has no value.")
    all: Names | None = pydantic.Field(default=None, description="Rows in which none of these fields has a value.")

    def covers(self, other: Gaps) -> bool:
        """Return whether each row is dropped here that another policy drops."""
        one, every, lost = self._wanted, set(self.all or ()), set(other.all or ())
        return other._wanted <= one and (not lost or bool(lost & one) or bool(every and every <= lost))

    @property
    def _wanted(self) -> set[str]:
        """The fields without one of which a row is dropped, whatever else it has: all of one field is that field."""
        return {*(self.any or ()), *((self.all or ()) if len(self.all or ()) == 1 else ())}


def _form_of_missing(value: object) -> str | None:
    if isinstance(value, str):
        return "a word" if value in get_args(Policy) else None
    return "a mapping" if isinstance(value, dict | Gaps) else None


Missing = Annotated[
    Annotated[Policy, pydantic.Tag("a word")] | Annotated[Gaps, pydantic.Tag("a mapping")],
    pydantic.Discriminator(
        _form_of_missing,
        custom_error_type="missing_rule",
        custom_error_message="expected drop, keep or {any: [FIELDS], all: [FIELDS]}",
    ),
]
"""Which rows with gaps are dropped: those with any, none, or those that lack some fields."""


def drops_without(missing: Policy | Gaps, name: str) -> bool:
    """Return whether no row is left in which a field has no value."""
    return missing == "drop" if isinstance(missing, str) else name in (missing.any or ())


def drops_fewer(missing: Policy | Gaps, before: Policy | Gaps) -> bool:
    """Return whether a row with gaps is kept that was dropped before."""
    if missing == "drop" or before == "keep":
        return False
    return not (isinstance(missing, Gaps) and isinstance(before, Gaps) and missing.covers(before))


def gaps_are_of_fields(draft: Draft) -> Iterator[Finding]:
    """Demand fields that may lack a value, each once, and one at least."""
    missing = draft.at(*_MISSING)
    if isinstance(missing, dict) and missing.keys() <= {"any", "all"} and not any(missing.values()):
        yield _MISSING, "expected fields under any, all or both, got none"
    for key in ("any", "all"):
        names: Any = draft.at(*_MISSING, key)
        for place, name in enumerate(names[:_MOST] if isinstance(names, list) else ()):
            path = (*_MISSING, key, place)
            field = draft.field(name)
            if field is None:
                if isinstance(name, str) and draft.named and name not in draft.names:
                    yield path, f"unknown field {name!r}; {closest(name, draft.names)}"
            elif not field.nullable:
                yield path, f"expected a field with nullable: true, got {name!r}, which is never missing"
            elif name in names[:place]:
                yield path, f"expected each field once, got {name!r} again"


NO_NUMBERS: Final = ("string", "bool")
"""Types whose values have no order that distances could be taken by."""


class Outliers(Section):
    """Rows that are left out of the training split of a dataset, because a value lies far from most of its field.

    How far is far is told by the training split, when a dataset is made. Validation and test keep their rows: who asks
    a model is not told to leave theirs out. A field of which half of the values or more are equal has none. Whatever is
    left out stays in its segment, and `headrace where` tells of it. Where far values are right, and only too strong,
    scale: winsorize or robust keeps their rows.
    """

    rule: Literal["iqr", "robustZ"] = pydantic.Field(
        default="robustZ",
        description="iqr: further from the quartiles than limit times the distance between these (Tukey). robustZ: "
        "further from the median than limit deviations, estimated by the median distance from it (Iglewicz and "
        "Hoaglin).",
    )
    limit: Annotated[float, pydantic.Field(gt=0, le=1000)] | None = pydantic.Field(
        default=None,
        description="How far is too far. Left out: 3 of iqr, from where on Tukey calls a value far out, and "
        "3.5 of robustZ.",
    )
    fields: Names | None = pydantic.Field(
        default=None,
        description="The fields that are looked at: features or a label, each one number. Left out: all such features.",
    )

    @property
    def reach(self) -> float:
        """The limit, or that of the rule."""
        return self.limit or {"iqr": 3.0, "robustZ": 3.5}[self.rule]


def outliers_are_numbers(draft: Draft) -> Iterator[Finding]:
    """Demand fields that are one number each, to learn from or to predict."""
    names: Any = draft.at(*_OUTLIERS, "fields")
    for place, name in enumerate(names[:_MOST] if isinstance(names, list) else ()):
        path = (*_OUTLIERS, "fields", place)
        field = draft.field(name)
        if field is None:
            if isinstance(name, str) and draft.named and name not in draft.names:
                yield path, f"unknown field {name!r}; {closest(name, draft.names)}"
        elif field.type in NO_NUMBERS or field.shape:
            shape = f" and shape {list(field.shape)}" if field.shape else ""
            yield path, f"expected a field that is one number, got {name!r} of type {field.type}{shape}"
        elif field.role not in ("feature", "label"):
            yield path, f"expected a feature or a label, got {name!r} with role {field.role}"
        elif name in names[:place]:
            yield path, f"expected each field once, got {name!r} again"
