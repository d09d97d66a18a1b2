"""What would accept rejected records: letters by rule and field, and the change of the spec, where it is plain.

A change is tried before it is told: the pipeline is built with it, and the letters of the group are checked by that
one's schema and cleaned by those of its rules that look at a row alone.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from headrace.ingestion.v1 import ingestion_service_pb2 as messages

from headrace_client.yaml_texts import flow

if TYPE_CHECKING:
    from headrace_data.spec import Stream

MOST_TRIED: Final = 1000
"""Letters of a group whose values are looked at and tried; all are counted."""
ROWS: Final = "preprocessing"
"""Stage whose letters hold rows, and not what the producers sent."""
FILE_ROWS: Final = "file"
"""The same of rows of files that were pushed."""
_WIDER: Final = {"float32": "float64", "int8": "int64", "uint8": "int64", "int16": "int64", "int32": "int64"}
_LIMITS: Final = {"int8": 2**7, "uint8": 2**8, "int16": 2**15, "int32": 2**31, "int64": 2**63, "float32": 2.0**128}
_NO_VALUE: Final = {"", "-", "--", "?", ".", "na", "n/a", "n.a.", "nan", "nil", "none", "null", "missing", "unknown"}
_YES: Final = ("1", "j", "ja", "on", "t", "true", "y", "yes")
_NO: Final = ("0", "f", "false", "n", "nein", "no", "off")
_KINDS: Final = ("email", "iban", "card", "ip", "phone")

Spec = dict[str, Any]
"""A pipeline's document as plain values, every default filled in."""


@dataclass
class Group:
    """Letters that broke one rule with one field."""

    stage: str
    rule: str
    field: str
    example: messages.DeadLetter
    """The first of them."""
    letters: int = 0
    values: list[bytes] = dataclasses.field(default_factory=list)
    """The records of the first ones, as far as their letters hold them."""

    def found(self) -> list[Any]:
        """Return what these records have for the field; None where they have nothing."""
        return [record.get(self.field) for record in map(_record, self.values) if record is not None]


@dataclass(frozen=True)
class Proposal:
    """A change of the spec, and what it leads to."""

    changes: tuple[str, ...]
    """Lines of the form `path: value`."""
    accepts: int | None
    """How many of `tried` letters it accepts; None where that cannot be tried here."""
    tried: int


@dataclass
class _Draft:
    """A spec that is being changed."""

    spec: Spec
    changes: list[str] = dataclasses.field(default_factory=list)

    def entry(self, name: str) -> Spec:
        """Return the schema's entry of a field."""
        entries: list[Spec] = self.spec["stream"]["schema"]
        return next(entry for entry in entries if entry["name"] == name)

    def set_field(self, name: str, key: str, value: object) -> None:
        self.entry(name)[key] = value
        self.changes.append(f"stream.schema.{name}.{key}: {flow(value)}")

    def set_clean(self, key: str, value: object) -> None:
        self.spec["prepare"]["clean"][key] = value
        self.changes.append(f"prepare.clean.{key}: {flow(value)}")


def grouped(letters: Iterable[messages.DeadLetter]) -> list[Group]:
    """Return letters by stage, rule and field, the largest group first."""
    found: dict[tuple[str, str, str], Group] = {}
    for letter in letters:
        key = letter.stage, letter.rule, letter.field
        group = found.setdefault(key, Group(*key, letter))
        group.letters += 1
        # What is withheld is no record that could be tried.
        if len(group.values) < MOST_TRIED and not letter.withheld:
            group.values.append(letter.value)
    return sorted(found.values(), key=lambda group: -group.letters)


def proposal(group: Group, spec: Spec) -> Proposal | None:
    """Return the change of a spec that would accept a group's records; None where none is plain."""
    names = [entry["name"] for entry in spec["stream"]["schema"]]
    if group.rule not in _RULES or (group.rule not in _UNTOLD and group.field not in names):
        return None
    draft = _Draft(deepcopy(spec))
    if not _RULES[group.rule](group, draft) or not draft.changes:
        return None
    if group.rule in _UNTOLD or not group.values:
        return Proposal(tuple(draft.changes), None, 0)
    accepts = _accepted(draft.spec, group)
    return Proposal(tuple(draft.changes), accepts, len(group.values)) if accepts != 0 else None


def read_as(stream: Stream, stage: str) -> Stream:
    """Return the stream by which the letters of a stage are read: as rows, as rows of files, or as they were sent."""
    if stage == ROWS:
        return stream.of_rows
    return stream.in_json if stage == FILE_ROWS else stream


def _accepted(spec: Spec, group: Group) -> int | None:
    """Return how many records a pipeline takes; None where this installation cannot tell, 0 where it is no pipeline."""
    from headrace_data.cleaning import broken, squared_fields
    from headrace_data.records import RecordChecker
    from headrace_data.spec import SpecInvalid, parse_canonical

    # Personal fields need a key that is not here, and are sound or not whatever becomes of them.
    stream = {key: value for key, value in spec["stream"].items() if key != "personal"}
    try:
        pipeline = parse_canonical(json.dumps({**spec, "stream": stream}).encode())
        read = read_as(pipeline.stream, group.stage)
        if read.registry is not None:
            return None  # the registry of schemas is known to the services alone
        values = group.values
        batch = RecordChecker(read).check(values, [0] * len(values), range(len(values))).batch
    except SpecInvalid:
        return None if "select" in spec["stream"] else 0
    except ImportError:
        return None  # what reads these records is not installed here
    rules = pipeline.prepare.clean
    return len(batch) - len(broken(batch, pipeline.stream.fields, rules, squared_fields(pipeline)))


def _missing(group: Group, draft: _Draft) -> bool:
    entry = draft.entry(group.field)
    if entry["role"] != "feature":
        return False  # a label that is missing teaches nothing, and a key names nothing
    if not entry["nullable"]:
        draft.set_field(group.field, "nullable", True)
    chosen = draft.spec["prepare"]["transform"].setdefault(group.field, {})
    if "impute" not in chosen:
        chosen["impute"] = {"constant": "unknown"} if entry["type"] == "string" else "median"
        draft.changes.append(f"prepare.transform.{group.field}.impute: {flow(chosen['impute'])}")
    missing = draft.spec["prepare"]["clean"]["missing"]
    if missing == "drop":
        others = [each["name"] for each in draft.spec["stream"]["schema"] if each["nullable"]]
        others = [name for name in others if name != group.field]
        draft.set_clean("missing", {"any": others} if others else "keep")
    elif isinstance(missing, dict) and group.field in (missing.get("any") or ()):
        left = {**missing, "any": [name for name in missing["any"] if name != group.field]}
        draft.set_clean("missing", {key: names for key, names in left.items() if names} or "keep")
    return True


def _type(group: Group, draft: _Draft) -> bool:
    entry, found = draft.entry(group.field), group.found()
    kind, texts = entry["type"], [value for value in found if isinstance(value, str)]
    if entry["shape"] or draft.spec["stream"].get("select"):
        return False
    column = _quoted(group.field)
    if kind == "string":
        scalars = [value for value in found if isinstance(value, int | float)]
        return bool(scalars) and _select(draft, group.field, f"CAST({column} AS VARCHAR)")
    if kind == "bool":
        words = {str(value).strip().lower() for value in found}
        if not words <= {*_YES, *_NO}:
            return False
        return _select(draft, group.field, f"lower(trim({column})) IN {_sql(_YES)}")
    if texts:
        return _number_of_text(group, draft, texts)
    if kind.startswith(("int", "uint")) and any(type(value) is float for value in found):
        draft.set_field(group.field, "type", "float64")
        return bool(entry["role"] == "feature")
    return False


def _number_of_text(group: Group, draft: _Draft, texts: Sequence[str]) -> bool:
    column, told = _quoted(group.field), [text.strip() for text in texts]
    told = [text for text in told if text.lower() not in _NO_VALUE]
    read = _reading(told, column)
    if read is None:
        return False
    expression, is_number = read
    kind = "DOUBLE" if draft.entry(group.field)["type"].startswith("float") else "BIGINT"
    lacks = len(told) < len(texts) or not all(map(is_number, told))
    if lacks and not _missing(group, draft):
        return False
    return _select(draft, group.field, f"TRY_CAST({expression} AS {kind})")


def _reading(texts: Sequence[str], column: str) -> tuple[str, Callable[[str], bool]] | None:
    """Return the expression that makes numbers of texts, and which texts it makes one of; None for none of them."""

    def is_plain(text: str) -> bool:
        return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None

    def has_comma(text: str) -> bool:
        return is_plain(text.replace(",", ".", 1))

    def in_thousands(text: str) -> bool:
        return re.fullmatch(r"[+-]?\d{1,3}(,\d{3})*(\.\d+)?", text) is not None

    commas = [text for text in texts if "," in text]
    if commas and not all(map(in_thousands, commas)):  # 1,234 alone may be either
        return f"replace({column}, ',', '.')", has_comma
    if any("." in text or text.count(",") > 1 for text in commas):
        return f"replace({column}, ',', '')", lambda text: is_plain(text) or in_thousands(text)
    return (column, is_plain) if not texts or any(map(is_plain, texts)) else None


def _overflow(group: Group, draft: _Draft) -> bool:
    entry = draft.entry(group.field)
    if entry["role"] != "feature" or entry["type"] not in _WIDER:
        return False
    wider = _WIDER[entry["type"]]
    if any(abs(value) >= _LIMITS.get(wider, float("inf")) for value in _numbers(group.found())):
        wider = "float64"
    draft.set_field(group.field, "type", wider)
    return True


def _out_of_range(group: Group, draft: _Draft) -> bool:
    entry, numbers = draft.entry(group.field), list(_numbers(group.found()))
    if not numbers or not entry.get("range"):
        return False
    low, high = entry["range"]
    draft.set_field(group.field, "range", [min(low, *numbers), max(high, *numbers)])
    return True


def _shape(group: Group, draft: _Draft) -> bool:
    shapes = {_shape_of(value) for value in group.found()}
    (shape,) = shapes if len(shapes) == 1 else (None,)
    if not shape or draft.entry(group.field)["role"] != "feature":
        return False
    draft.set_field(group.field, "shape", list(shape))
    return True


def _duplicates(_group: Group, draft: _Draft) -> bool:
    draft.set_clean("duplicates", "keep")
    return True


def _personal(group: Group, draft: _Draft) -> bool:
    policy = draft.spec["prepare"]["clean"].get("personal")
    kind = group.example.reason.removesuffix(", got some").rpartition(" ")[2]
    if not isinstance(policy, dict) or kind not in _KINDS or policy.get(kind) != "reject":
        return False
    policy[kind] = "mask"
    draft.changes.append(f"prepare.clean.personal.{kind}: mask")
    return True


_RULES: Final[Mapping[str, Callable[[Group, _Draft], bool]]] = {
    "missing": _missing,
    "type": _type,
    "overflow": _overflow,
    "outOfRange": _out_of_range,
    "shape": _shape,
    "duplicates": _duplicates,
    "personal": _personal,
}
"""How a draft is changed so that it takes a group's records, by rule; says whether there is a plain way."""


_UNTOLD: Final = ("duplicates", "personal")
"""Rules of which letters do not tell whether they are kept: by keys that came before, and texts that are withheld."""


def _select(draft: _Draft, name: str, expression: str) -> bool:
    stream = draft.spec["stream"]
    others = {entry["name"]: _quoted(entry["name"]) for entry in stream["schema"]}
    lines = [f"{others[each] if each != name else expression} AS {others[each]}" for each in others]
    stream["select"] = ",\n".join(lines)
    draft.changes.append(f"stream.select: {expression} AS {others[name]}")
    return True


def _record(value: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(value)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _numbers(values: Iterable[Any]) -> Iterator[float]:
    for value in values:
        if isinstance(value, list):
            yield from _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield value


def _shape_of(value: Any) -> tuple[int, ...]:
    return (len(value), *_shape_of(value[0])) if isinstance(value, list) and value else ()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _sql(words: Sequence[str]) -> str:
    return "(" + ", ".join(f"'{word}'" for word in words) + ")"
