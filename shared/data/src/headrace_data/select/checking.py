"""Whether a SELECT makes the rows of a schema: every problem, with its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

from headrace_data.errors import SelectInvalid
from headrace_data.select.binding import INTEGERS, Bound, bound, over_columns, problems_of_casts
from headrace_data.select.engine import ComputingFailed, Engine, quoted
from headrace_data.select.functions import MOST_GROWTH, growth, refusals
from headrace_data.select.tree import Leaf, Output, leaves, outputs_of, tried

_ZONED: Final = "TIMESTAMP WITH TIME ZONE"
_NOTHING: Final = "NULL"
_FLOATS: Final = INTEGERS | {"FLOAT", "DOUBLE", "DECIMAL"}
_TIMES: Final = frozenset((_ZONED, "VARCHAR", "BIGINT", "INTEGER", "UBIGINT", "DOUBLE", _NOTHING))


class Wanted(Protocol):
    """A field of a schema, as far as a SELECT has to fit it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def type(self) -> str:
        """Type of each element, such as float32."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each dimension; empty for a single value."""


class Schema(Protocol):
    """A stream, as far as its SELECT has to fit it. What the spec has is one; the spec imports this room."""

    @property
    def select(self) -> str | None:
        """The SELECT itself."""

    @property
    def fields(self) -> Sequence[Wanted]:
        """What each row has."""

    @property
    def time(self) -> str | None:
        """The name of the event time, where a row has one."""


@dataclass(frozen=True)
class Computed:
    """A value that is computed: what DuckDB is asked for."""

    name: str
    shown: str
    """Its expression, for messages."""
    text: str
    """Its SQL, over columns that have the names of its leaves, as a type that records have."""
    unread: str
    """SQL of whether it is missing because something in it could not be read; empty where nothing is tried."""
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class Compiled:
    """A SELECT that makes the rows of a schema."""

    names: tuple[str, ...]
    taken: dict[str, Leaf]
    """The values that are taken as they are, by the name that they get."""
    computed: tuple[Computed, ...]


def problems_of(stream: Schema) -> list[str]:
    """Return every problem of a stream's SELECT, none where it has none."""
    try:
        compiled(stream)
    except SelectInvalid as error:
        return error.problems
    return []


def compiled(stream: Schema, engine: Engine | None = None) -> Compiled:
    """Return a stream's SELECT, made ready. Raises SelectInvalid with every problem."""
    engine = engine or Engine()
    outputs = outputs_of(stream.select or "", engine, _refused())
    problems = [*_names(outputs, stream), *_sizes(outputs)]
    computed: list[Computed] = []
    for output in outputs:
        if output.leaf is None:
            made = _computed(output, stream, engine)
            if isinstance(made, Computed):
                computed.append(made)
            else:
                problems += [f"{output.place}: {problem}" for problem in made]
    if problems:
        raise SelectInvalid(problems)
    taken = {output.name: output.leaf for output in outputs if output.leaf is not None}
    return Compiled(tuple(output.name for output in outputs), taken, tuple(computed))


def text_without(stream: Schema, name: str) -> str:
    """Return a stream's SELECT, written anew, without the value of a name. Raises SelectInvalid."""
    engine = Engine()
    outputs = outputs_of(stream.select or "", engine, _refused())
    values = [(each.leaf or engine.written(each.expression), each.name) for each in outputs if each.name != name]
    return "\n, ".join(f"{value} AS {quoted(named)}" for value, named in values)


@cache
def _refused() -> Mapping[str, str]:
    """Return why each function is refused: the same for every SELECT, and slow to ask."""
    return refusals(Engine().functions())


def _names(outputs: Sequence[Output], stream: Schema) -> Iterator[str]:
    wanted = [field.name for field in stream.fields]
    wanted += [stream.time] if stream.time is not None and stream.time not in wanted else []
    counts = Counter(output.name for output in outputs)
    for output in outputs:
        if output.name not in wanted:
            yield f"{output.place}: expected the name of a field of the schema or stream.time, got {output.name!r}"
    yield from (f"expected each name once, got {name!r} {often} times" for name, often in counts.items() if often > 1)
    if lacking := [name for name in wanted if name not in counts]:
        shown = ", ".join(lacking[:12]) + (f" and {len(lacking) - 12} more" if len(lacking) > 12 else "")
        yield f"expected every field of the schema and stream.time, got none of the name {shown}"


def _sizes(outputs: Sequence[Output]) -> Iterator[str]:
    """Yield what may make more of a record than memory has room for."""
    for output in outputs:
        if output.leaf is None and (much := growth(output.expression)) > MOST_GROWTH:
            yield f"{output.place}: expected at most {MOST_GROWTH} times the bytes of a record, got up to {much} times"


def _computed(output: Output, stream: Schema, engine: Engine) -> Computed | list[str]:
    try:
        made = bound(output.expression, engine)
    except ComputingFailed as error:
        hint = ": a value of a record is a text here, until it is cast" if "types" in str(error) else ""
        return [f"{error}{hint}"]
    problems = [*problems_of_casts(output.expression, engine), *_misfits(output.name, made, stream)]
    if problems:
        return problems
    found = tuple(dict.fromkeys(leaves(output.expression)))
    shown = engine.written(output.expression)
    text = _as_record_has(made)
    return Computed(output.name, shown, text, _unread(output.expression, made.text, engine), found)


def _misfits(name: str, made: Bound, stream: Schema) -> Iterator[str]:
    field = next((field for field in stream.fields if field.name == name), None)
    if field is not None:
        yield from _misfits_field(field, made)
    if name == stream.time and (made.depth or made.element not in _TIMES):
        yield f"expected a TIMESTAMP WITH TIME ZONE, a text in ISO 8601 or a number, got {made.type}{_zone_hint(made)}"


def _misfits_field(field: Wanted, made: Bound) -> Iterator[str]:
    if made.type == _NOTHING:
        return
    wanted, example = _wanted(field)
    deep = made.depth == len(field.shape) or (made.depth == 1 and field.shape)
    if made.element not in wanted or not deep:
        shape = f" and shape {list(field.shape)}" if field.shape else ""
        yield f"expected {example} for type {field.type}{shape}, got {made.type}{_zone_hint(made)}"


def _wanted(field: Wanted) -> tuple[frozenset[str], str]:
    """Return the types that fit a field, and the one to write."""
    many = "[]" if field.shape else ""
    if field.type == "string":
        return frozenset(("VARCHAR",)), f"VARCHAR{many}"
    if field.type == "bool":
        return frozenset(("BOOLEAN",)), f"BOOLEAN{many}"
    if field.type.startswith("float"):
        return frozenset(_FLOATS), f"DOUBLE{many}"
    return frozenset(INTEGERS - {"HUGEINT", "UHUGEINT"}), f"BIGINT{many}"


def _zone_hint(made: Bound) -> str:
    if made.element in ("TIMESTAMP", "DATE", _ZONED):
        return (
            ": AT TIME ZONE 'UTC' gives one with a zone, epoch_us a number" if made.element != _ZONED else ": epoch_us"
        )
    return ""


def _as_record_has(made: Bound) -> str:
    """Return an expression as a type that JSON has too."""
    if made.element == _ZONED:
        return f"(strftime(({made.text}) AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f') || 'Z')"
    if made.element in ("DECIMAL", "HUGEINT", "UHUGEINT"):
        return f"CAST(({made.text}) AS DOUBLE{'[]' * made.depth})"
    return made.text


def _unread(expression: Any, text: str, engine: Engine) -> str:
    """Return SQL of whether a value is missing though something that is tried in it is there."""
    tries = []
    for place, of in tried(expression):
        there = " AND ".join(f"({engine.written(over_columns(each))}) IS NOT NULL" for each in of)
        if there:
            tries.append(f"(({engine.written(over_columns(place))}) IS NULL AND {there})")
    return f"(({text}) IS NULL AND ({' OR '.join(tries)}))" if tries else ""
