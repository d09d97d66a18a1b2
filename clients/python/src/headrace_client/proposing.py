"""What would accept rejected records: letters by rule and field, and the change of the spec, where it is plain.

A change is tried before it is told: the pipeline is built with it, and the letters of the group are checked by that
one's schema and cleaned by those of its rules that look at a row alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from headrace.ingestion.v1 import ingestion_service_pb2 as messages

from headrace_client.words import NO, YES, is_no_number
from headrace_client.written_numbers import PLAIN, WHOLE, Written, ways_of
from headrace_client.yaml_texts import flow

if TYPE_CHECKING:
    from headrace_data.select.tree import Leaf
    from headrace_data.spec import Stream

MOST_TRIED: Final = 1000
"""Letters of a group whose values are looked at and tried; all are counted."""
ROWS: Final = "preprocessing"
"""Stage whose letters hold rows, and not what the producers sent."""
FILE_ROWS: Final = "file"
"""The same of rows of files that were pushed."""
_WIDER: Final = {"float32": "float64", "int8": "int64", "uint8": "int64", "int16": "int64", "int32": "int64"}
_HELD: Final = ("int8", "uint8", "int16", "uint16", "int32", "uint32")
"""Types of whole numbers of which float64 holds each."""
_LIMITS: Final = {"int8": 2**7, "uint8": 2**8, "int16": 2**15, "int32": 2**31, "int64": 2**63, "float32": 2.0**128}
_KINDS: Final = ("email", "iban", "card", "ip", "phone")
_YES_TOO: Final = (*YES, "1")
_NO_TOO: Final = (*NO, "0")
_SENT: Final = ("true", "1", "false", "0")
"""What those are in an expression that were sound before."""
_LEAST_READ: Final = 0.5
"""Share of texts that are numbers from which on the others are taken for faults among them."""

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

    def found(self, draft: _Draft) -> list[Any]:
        """Return what these records have for the field; None where they have nothing."""
        records = [record for record in map(_record, self.values) if record is not None]
        place = None if self.stage == ROWS else draft.place(self.field)
        if place is None or not draft.spec["stream"].get("select"):
            return [record.get(self.field) for record in records]
        from headrace_data.select.values import Found

        return Found(records, None).values(place)


@dataclass(frozen=True)
class Proposal:
    """A change of the spec, and what it leads to."""

    changes: tuple[str, ...]
    """Lines of the form `path: value`."""
    accepts: int | None
    """How many of `tried` letters it accepts; None where that cannot be tried here."""
    tried: int
    gaps: int = 0
    """How many of those that it accepts have no value for the field then."""


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

    def place(self, name: str) -> Leaf | None:
        """Return where a record has the value of a field; None of one that is computed, or where that is unknown."""
        from headrace_data.select.tree import Leaf

        if not self.spec["stream"].get("select"):
            return Leaf((name,))
        try:
            from headrace_data.select.checking import compiled

            return compiled(_stream(self.spec)).taken.get(name)
        except ImportError:
            return None  # what reads a SELECT is not installed here

    def read(self, name: str, expression: str) -> None:
        """Let the SELECT compute a field, whose place is {} in the expression."""
        from headrace_data.select.tree import Leaf

        stream = self.spec["stream"]
        place = str(self.place(name))
        told = f"{expression.replace('{}', place)} AS {Leaf((name,))}"
        if stream.get("select"):
            from headrace_data.select.checking import text_without

            others = text_without(_stream(self.spec), name)
        else:
            names = [str(self.place(entry["name"])) for entry in stream["schema"] if entry["name"] != name]
            others = ",\n".join(f"{each} AS {each}" for each in names)
        stream["select"] = f"{others},\n{told}" if others else told
        self.changes.append(f"stream.select: {told}")

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
    draft = _Draft(deepcopy(spec))
    if not _changes(group, draft):
        return None
    if group.rule in _UNTOLD or not group.values:
        return Proposal(tuple(draft.changes), None, 0)
    accepts, gaps = _accepted(draft.spec, group)
    return Proposal(tuple(draft.changes), accepts, len(group.values), gaps) if accepts != 0 else None


def together(groups: Sequence[Group], spec: Spec) -> Spec | None:
    """Return a spec with the changes for all groups; None where none is plain."""
    found = deepcopy(spec)
    for group in groups:
        # What cannot be changed beside what was, or is already, is left as it is.
        if proposal(group, found) is not None:
            draft = _Draft(found)
            _changes(group, draft)
    return found if found != spec else None


def _changes(group: Group, draft: _Draft) -> bool:
    names = [entry["name"] for entry in draft.spec["stream"]["schema"]]
    if group.rule not in _RULES or (group.rule not in _UNTOLD and group.field not in names):
        return False
    return _RULES[group.rule](group, draft) and bool(draft.changes)


def read_as(stream: Stream, stage: str) -> Stream:
    """Return the stream by which the letters of a stage are read: as rows, as rows of files, or as they were sent."""
    if stage == ROWS:
        return stream.of_rows
    return stream.in_json if stage == FILE_ROWS else stream


def _stream(spec: Spec) -> Stream:
    from headrace_data.spec import parse_canonical

    return parse_canonical(json.dumps(spec).encode()).stream


def _accepted(spec: Spec, group: Group) -> tuple[int | None, int]:
    """Return how many records a pipeline takes, and how many of these lack the field.

    None where this installation cannot tell, 0 where it is no pipeline.
    """
    from headrace_data.cleaning import broken, squared_fields
    from headrace_data.records import RecordChecker
    from headrace_data.spec import SpecInvalid, parse_canonical

    # Personal fields need a key that is not here, and are sound or not whatever becomes of them.
    stream = {key: value for key, value in spec["stream"].items() if key != "personal"}
    try:
        pipeline = parse_canonical(json.dumps({**spec, "stream": stream}).encode())
        read = read_as(pipeline.stream, group.stage)
        if read.registry is not None:
            return None, 0  # the registry of schemas is known to the services alone
        values = group.values
        batch = RecordChecker(read).check(values, [0] * len(values), range(len(values))).batch
    except SpecInvalid:
        return (None if "select" in spec["stream"] else 0), 0
    except ImportError:
        return None, 0  # what reads these records is not installed here
    rules = pipeline.prepare.clean
    accepted = len(batch) - len(broken(batch, pipeline.stream.fields, rules, squared_fields(pipeline)))
    return accepted, batch.column(group.field).null_count if group.field else 0


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
    entry, found = draft.entry(group.field), group.found(draft)
    kind, texts = entry["type"], [value for value in found if isinstance(value, str)]
    if entry["shape"] or draft.place(group.field) is None:
        return False
    if kind == "string":
        if not any(isinstance(value, int | float) for value in found):
            return False
        draft.read(group.field, "CAST({} AS VARCHAR)")
        return True
    if kind == "bool":
        return _words(group, draft, found)
    if texts:
        return _numbers_of_texts(group, draft, found)
    if kind.startswith(("int", "uint")) and any(type(value) is float for value in found):
        return bool(entry["role"] == "feature") and _fractions(group.field, draft)
    return False


def _words(group: Group, draft: _Draft, found: Sequence[Any]) -> bool:
    """Read words for yes and no; others are not guessed at."""
    words = {str(value).strip().lower() for value in found}
    if not words <= {*_YES_TOO, *_NO_TOO}:
        return False
    yes, no = (_sql([word for word in each if word in words or word in _SENT]) for each in (_YES_TOO, _NO_TOO))
    word = "lower(trim({}))"
    draft.read(group.field, f"CASE WHEN {word} IN {yes} THEN true WHEN {word} IN {no} THEN false END")
    return True


def _numbers_of_texts(group: Group, draft: _Draft, found: Sequence[Any]) -> bool:
    """Read numbers that are written in another way beside those that are plain, which stay what they are."""
    told = [value.strip() for value in found if isinstance(value, str) and not is_no_number(value.strip())]
    plain = [text for text in told if PLAIN.fullmatch(text)]
    others = [text for text in told if not PLAIN.fullmatch(text)]
    way = _way(others)
    if way and any(map(way.may_divide, plain)):
        return False
    numbers = [float(text) for text in plain]
    numbers += [number for text in others if way and (number := way.read(text)) is not None]
    numbers += [value for value in found if isinstance(value, int | float)]
    if len(numbers) < _LEAST_READ * (len(found) - sum(map(_says_nothing, found))):
        return False
    name, cast = group.field, WHOLE
    if draft.entry(name)["type"].startswith("float"):
        cast = "TRY_CAST({} AS DOUBLE)"
    elif not all(number.is_integer() for number in map(float, numbers)):
        if not _fractions(name, draft):
            return False
        cast = "TRY_CAST({} AS DOUBLE)"
    if len(numbers) < len(found) and not _missing(group, draft):
        return False
    draft.read(name, cast.replace("{}", way.inner_beside_plain if way else "{}"))
    return True


def _way(texts: Sequence[str]) -> Written | None:
    """Return the way in which most of some texts are written; None where it is none, or may be two."""
    # Those that are sound are plain, and have no unit.
    ways = list(ways_of(["0", *sorted(texts)])) if texts else []
    read = [sum(way.read(text) is not None for text in texts) for way in ways]
    best = max(read, default=0)
    way = ways[read.index(best)] if best > 0 else None
    return None if way is None or way.doubt else way


def _fractions(name: str, draft: _Draft) -> bool:
    """Let a field of whole numbers have fractions, where one of those of before is held by the wider type."""
    if draft.entry(name)["type"] not in _HELD:
        return False
    draft.set_field(name, "type", "float64")
    return True


def _says_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and is_no_number(value.strip()))


def _overflow(group: Group, draft: _Draft) -> bool:
    entry = draft.entry(group.field)
    if entry["role"] != "feature" or entry["type"] not in _WIDER:
        return False
    wider = _WIDER[entry["type"]]
    if any(abs(value) >= _LIMITS.get(wider, float("inf")) for value in _numbers(group.found(draft))):
        wider = "float64"
    draft.set_field(group.field, "type", wider)
    return True


def _out_of_range(group: Group, draft: _Draft) -> bool:
    entry, numbers = draft.entry(group.field), list(_numbers(group.found(draft)))
    if not numbers or not entry.get("range"):
        return False
    low, high = entry["range"]
    draft.set_field(group.field, "range", [min(low, *numbers), max(high, *numbers)])
    return True


def _shape(group: Group, draft: _Draft) -> bool:
    shapes = {_shape_of(value) for value in group.found(draft)}
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


def _sql(words: Sequence[str]) -> str:
    return "(" + ", ".join(f"'{word}'" for word in words) + ")"
