"""What the fields of a sample are for: which is the label, which names a record, what is learned from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from headrace_data.spec.feature_rules import RESERVED

from headrace_client.drafting.errors import DraftImpossible, NothingDivides
from headrace_client.drafting.forms import moments_of
from headrace_client.drafting.moments import DAY_S, WEEK_S, are_dates, are_serials, unit_of
from headrace_client.drafting.observing import Observed

Role = Literal["feature", "label", "id", "group"]

LABEL_NAMES: Final = ("label", "target", "class", "outcome", "y", "category", "result", "response")
"""Names by which producers call what is to be predicted, the clearest first."""
MOST_CLASSES: Final = 20
"""Distinct values of a field that is taken for a class."""
MOST_CATEGORIES: Final = 50
"""Distinct texts of a field that is taken for a category; with more it is free text."""
_FEW: Final = 10
"""So few texts are categories in a sample of any size."""
_ID_NAME: Final = re.compile(
    r"(?i:(.*[_.-])?(id|uuid|guid|key))|.*[a-z](Id|ID|Uuid|UUID|Key)",
    re.ASCII,
)
_COUNTED: Final = re.compile(
    r"(unnamed|column)[_ .:-]+[0-9]+|(row[_.-]?)?(index|names?|nr|no|number)", re.ASCII | re.IGNORECASE
)
"""Names of columns, or no names, by which programs and people count rows."""
_OWN_ID: Final = re.compile(
    r"(event|message|record|row|sample|trace)?[_.-]?(id|uuid|guid|key)", re.ASCII | re.IGNORECASE
)
"""Names of what names the record itself, and not what it is about, as a user's does."""
_OWN_ID_SHARE: Final = 0.5
_OTHER_ID_SHARE: Final = 0.9
"""Share of different values from which on a field of such a name, or of another that is named like an id, is the id."""
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_FIELD_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_DIVIDES: Final = "no field names a record: rows of the same values are taken for one"
_FEWEST_GROUPS: Final = 30
_MOST_REASONS: Final = 12
MOST_FIELDS: Final = 1_024
"""Fields that a schema may have."""


@dataclass(frozen=True)
class Placed:
    """A field with its role, and why it has it."""

    field: Observed
    role: Role
    why: str = ""


@dataclass(frozen=True)
class Roles:
    """All fields of a sample, sorted out."""

    placed: tuple[Placed, ...]
    """The fields of the schema, in the order of the sample."""
    left_out: tuple[Observed, ...]
    """The others; `reason` says why."""
    split_by: str | None
    """Field by which rows are divided when there is neither id nor group."""
    task: Literal["classification", "regression"]

    @property
    def label(self) -> Placed:
        """The field that is predicted."""
        return next(one for one in self.placed if one.role == "label")

    @property
    def id(self) -> Placed | None:
        """The field that names a record."""
        return next((one for one in self.placed if one.role == "id"), None)

    @property
    def features(self) -> tuple[Placed, ...]:
        """The fields that are learned from."""
        return tuple(one for one in self.placed if one.role == "feature")


def choose_roles(fields: Sequence[Observed], label: str | None = None, group: str | None = None) -> Roles:
    """Return what each field is for; `label` names the field to predict, else it is guessed.

    `group` names the field by which rows are divided, where there is no other. Raises DraftImpossible when a record has
    nothing to learn or to learn from, and NothingDivides when it has nothing to divide rows by.
    """
    usable = [_named_well(field) for field in fields]
    known = [field for field in usable if field.type is not None]
    if not known:
        raise DraftImpossible(f"expected a field that can be read, got {_reasons(_left_out(usable)) or 'none'}")
    chosen = _wanted(usable, label) if label is not None else _guessed(known)
    others = [field for field in known if field.name != chosen.field.name]
    naming = [Placed(one, "group", _DIVIDES) for one in others if one.name == group] or _naming(others)
    names = {one.field.name: one for one in (chosen, *naming)}
    placed: list[Placed] = []
    left_out = [field for field in usable if field.type is None]
    for field in known:
        why_not = "" if field.name in names else _no_feature(field)
        if why_not:
            left_out.append(replace(field, type=None, reason=why_not))
        elif len(placed) < MOST_FIELDS:
            placed.append(names.get(field.name) or Placed(field, "feature"))
    if not any(one.role == "feature" for one in placed):
        raise DraftImpossible(_nothing_to_learn_from(chosen, placed, left_out))
    named = any(one.role in ("id", "group") for one in placed)
    return Roles(
        tuple(placed),
        tuple(left_out),
        None if named else _divider(others),
        "regression" if _is_amount(chosen.field) else "classification",
    )


def _nothing_to_learn_from(label: Placed, placed: Sequence[Placed], left_out: Sequence[Observed]) -> str:
    """Return what every other field is instead of a feature."""
    other = [f"'{one.field.name}': the {one.role}" for one in placed if one is not label]
    got = _reasons(other + _left_out(left_out)) or "no other field"
    return f"expected a field to learn from beside the label '{label.field.name}', got {got}"


def _left_out(fields: Sequence[Observed]) -> list[str]:
    return [f"'{one.name}': {one.reason}" for one in fields]


def _reasons(reasons: Sequence[str]) -> str:
    more = f"; and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
    return "; ".join(reasons[:_MOST_REASONS]) + more


def _named_well(field: Observed) -> Observed:
    if field.type is None or _FIELD_NAME.fullmatch(field.name):
        return field
    return replace(field, type=None, reason="its name is not a letter, then at most 63 letters, digits, _, - or .")


def _wanted(fields: Sequence[Observed], name: str) -> Placed:
    for field in fields:
        if field.name == name:
            if field.type is None or field.shape:
                raise DraftImpossible(
                    f"expected a single number or text as label, got '{name}': {field.reason or 'an array'}. Of a list "
                    "(tags, a forecast of several steps) none is drafted: in the document it has a shape, such as [3]"
                )
            return Placed(field, "label", "the label that you named")
    raise DraftImpossible(f"expected the label to be a field of the records, got '{name}'; there are {_listed(fields)}")


def _guessed(fields: Sequence[Observed]) -> Placed:
    """Guess the label: by its name, else the last field that looks like classes, else the last number.

    Fields without gaps come before others.
    """
    single = [field for field in fields if not field.shape]
    for name in LABEL_NAMES:
        for field in single:
            if field.name.lower() == name or field.name.lower().endswith(f"_{name}"):
                return Placed(field, "label", "guessed: named like a label")
    # A record without its label is rejected: a field that has gaps is rather something to learn from.
    full = [field for field in single if not field.nullable]
    for fields_tried in (full, single):
        for elements in (("string", "bool"), ("int64",)):
            for field in reversed(fields_tried):
                if field.type in elements and _is_class(field):
                    return Placed(field, "label", f"guessed: the last field with few values ({field.distinct})")
    for field in (*reversed(full), *reversed(single)):
        if field.type not in ("string", "bool") and not _names_something(field) and not _tells_a_time(field):
            return Placed(field, "label", "guessed: the last number")
    raise DraftImpossible(f"expected a field that could be the label, got {_listed(fields)}; name it with --label")


def _is_class(field: Observed) -> bool:
    return _is_few(field) and not field.unique and not _names_something(field)


def _is_few(field: Observed) -> bool:
    enough = field.distinct <= _FEW or 2 * field.distinct <= field.records
    return 2 <= field.distinct <= MOST_CLASSES and enough


def _is_amount(label: Observed) -> bool:
    """Tell whether a label is a number to come close to, rather than a class to hit."""
    return label.type in ("float32", "float64") or (label.type == "int64" and label.distinct > MOST_CATEGORIES)


def are_classes_as_floats(label: Observed) -> bool:
    """Tell whether a label is probably a class that was written as a float, as libraries of tables do."""
    return label.whole_floats and _is_few(label)


def is_called_an_id(name: str) -> bool:
    """Tell whether a field of this name names something."""
    return _ID_NAME.fullmatch(name) is not None


def _names_something(field: Observed) -> bool:
    return field.always and (
        is_called_an_id(field.name) or (field.unique and _COUNTED.fullmatch(field.name) is not None)
    )


def _naming(fields: Sequence[Observed]) -> list[Placed]:
    """Return the id, and the group, as far as there are fields for them."""
    ids = [one for one in fields if _names_something(one) and one.unique]
    ids += [one for one in fields if one.unique and one.type == "string" and one.records > 1 and not _is_time(one)]
    found = [Placed(one, "id", "guessed: unique in the sample") for one in ids[:1]]
    # A producer that sends again makes ids repeat: to take the field for no id would keep every copy.
    repeating = [one for one in fields if _names_something(one) and one.different >= _least_different(one)]
    found = found or [Placed(one, "id", f"guessed: named like an id; {repeated(one)}") for one in repeating[:1]]
    groups = [one for one in fields if _names_something(one) and not one.unique and one.distinct > 1]
    why = "guessed: its records stay on one side of the split"
    return found + [Placed(one, "group", why) for one in groups if all(one is not other.field for other in found)][:1]


def _least_different(field: Observed) -> float:
    """Return of how many different values on a field named like an id is one, though values repeat."""
    share = _OWN_ID_SHARE if _OWN_ID.fullmatch(field.name) else _OTHER_ID_SHARE
    return max(2.0, share * field.records)


def repeated(field: Observed) -> str:
    """Return how many records have a value of a field that another one has before them, in words."""
    return f"{field.repeated} of {field.records} records repeat one"


def _tells_a_time(field: Observed) -> bool:
    return unit_of(field) is not None or are_dates(field) or are_serials(field)


def _is_time(field: Observed) -> bool:
    return all(_TIME.fullmatch(str(value)) for value in field.values or ())


def _no_feature(field: Observed) -> str:
    """Return why nothing is learned from a field; empty when something is."""
    if field.name in RESERVED:
        return "its name belongs to a model's answers"
    if _names_something(field):
        return "a name for something, nothing to learn from"
    if field.constant:
        return "one value in the whole sample, nothing to learn from"
    if field.type != "string":
        return _no_amount(field)
    if field.distinct > MOST_CATEGORIES or (field.distinct > _FEW and 2 * field.distinct > field.records):
        if sql := _moment(field):
            return f"a time: {_as_seconds(sql.replace('{}', field.name), field.name)}"
        if field.values and all(_NUMBER.fullmatch(str(value)) for value in field.values):
            return (
                f"numbers as codes have them: TRY_CAST({field.name} AS DOUBLE) in stream.select makes amounts of them"
            )
        count = field.distinct if field.values is not None else "many"
        return f"free text: {count} different values. Of names that come again make a feature with encode: target"
    return ""


def _no_amount(field: Observed) -> str:
    """Return why a number is none to be learned from; empty when it is one."""
    if field.personal:
        return f"numbers that are personal ({', '.join(field.personal)}), nothing to learn from"
    if are_dates(field):
        digits = f"try_strptime(CAST({field.name} AS VARCHAR), '%Y%m%d')"
        return f"a date as a number: {_as_seconds(f'epoch_us({digits}) // 1000000', field.name)}"
    if are_serials(field):
        seconds = f"CAST((TRY_CAST({field.name} AS DOUBLE) - 25569) * {DAY_S} AS BIGINT)"
        return f"a date, as spreadsheets count days: {_as_seconds(seconds, field.name)}"
    return ""


def _moment(field: Observed) -> str:
    """Return the SQL that makes seconds of texts that tell a time; nothing of others."""
    texts = sorted(field.texts)
    return next((form.sql for form in moments_of(texts) if texts and all(form.read(each) for each in texts)), "")


def _as_seconds(sql: str, name: str) -> str:
    return (
        f"`{sql} AS {name}` in stream.select makes seconds of it, of which "
        f"{{encode: {{kind: cyclic, periods: [{DAY_S}, {WEEK_S}]}}}} learns the hour and the day of the week"
    )


def _divider(others: Sequence[Observed]) -> str:
    """Return the field of most values that no record lacks: by few, a split would be of two or three kinds of rows."""
    fields = [field for field in others if field.always and not _no_feature(field)]
    fields = [field for field in fields if field.distinct >= min(_FEWEST_GROUPS, field.records / 2)]
    if not fields:
        raise NothingDivides(
            "expected a field to divide the rows by into training and test: one whole number or text that every record "
            f"has and that differs from record to record, got {_listed(others)}. Floats and arrays do not serve: send "
            'a name with each record, such as "id": "row-1"'
        )
    return max(fields, key=lambda field: field.distinct).name


def _listed(fields: Sequence[Observed]) -> str:
    shown = [f"'{field.name}'" for field in fields[:12]]
    more = f" and {len(fields) - 12} more" if len(fields) > 12 else ""
    return (", ".join(shown) or "none") + more
