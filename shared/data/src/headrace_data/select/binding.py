"""What DuckDB says of an expression before any record is there: its type, and the casts that nobody wrote.

Every value of a record is a text to an expression. So an expression has one type, whatever records come, and who
computes writes a cast. A cast that DuckDB would add by itself is refused where it may lose something; whoever writes it
out has meant it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from headrace_data.select.engine import ROWS, ComputingFailed, Engine, quoted
from headrace_data.select.tree import column, column_of, leaf_of, leaves, replaced

_WHOLE: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_UNSIGNED: Final = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
_WIDTH: Final[Mapping[str, int]] = {name: 8 << at for names in (_WHOLE, _UNSIGNED) for at, name in enumerate(names)}
INTEGERS: Final = frozenset(_WIDTH)
_EXACT: Final[Mapping[str, int]] = {"FLOAT": 24, "DOUBLE": 53}
"""Bits up to which a float holds every whole number."""
_SIZES: Final = re.compile(r"\[\d*\]")


@dataclass(frozen=True)
class Bound:
    """An expression that DuckDB understands."""

    text: str
    """Its SQL, over columns that have the names of its leaves."""
    type: str
    """Its type, as SQL writes it."""

    @property
    def element(self) -> str:
        """The type of a list's elements, however deep; the type itself of what is no list."""
        return _SIZES.sub("", self.type).partition("(")[0]

    @property
    def depth(self) -> int:
        """In how many lists an element lies."""
        return len(_SIZES.findall(self.type))


def bound(expression: Any, engine: Engine) -> Bound:
    """Return what an expression becomes. Raises ComputingFailed where DuckDB does not understand it."""
    return Bound(engine.written(over_columns(expression)), _type(expression, engine))


def over_columns(expression: Any) -> Any:
    """Return an expression that reads its leaves from columns."""
    return replaced(expression, lambda node: column_of(leaf) if (leaf := leaf_of(node)) else None)


def _type(expression: Any, engine: Engine) -> str:
    names = list(dict.fromkeys(leaf.column for leaf in leaves(expression)))
    engine.declare(names)
    return engine.types(f"SELECT {engine.written(over_columns(expression))} AS told FROM {ROWS}")[0].strip('"')


def unwritten_casts(expression: Any, engine: Engine) -> Iterator[str]:
    """Yield what is wrong with the casts that DuckDB adds to an expression by itself. `bound` took it before.

    Each cast that is written gives way to a column of its type, and what it casts is looked at beside it. So whatever
    is cast then was not written.
    """
    casts: list[Any] = []
    numbers = count()

    def changed(node: Any) -> Any:
        if leaf := leaf_of(node):
            return column_of(leaf)
        if node["class"] == "CAST" and node["child"].get("class") != "CONSTANT":
            casts.append(node)
            return column(f"cast {next(numbers)}")
        return None

    looked_at = [replaced(expression, changed)]
    names = list(dict.fromkeys(leaf.column for leaf in leaves(expression)))
    nothing = {
        "class": "CONSTANT",
        "type": "VALUE_CONSTANT",
        "alias": "",
        "literal": {"kind": "NULL_LITERAL", "text": ""},
    }
    typed = [f"{engine.written({**cast, 'child': nothing})} AS {quoted(f'cast {at}')}" for at, cast in enumerate(casts)]
    looked_at += [cast["child"] for cast in casts]
    engine.declare(names)
    inner = ", ".join([*map(quoted, names), *typed]) or "1"
    outer = ", ".join(engine.written(each) for each in looked_at)
    plans = engine.planned(f"SELECT {outer} FROM (SELECT {inner} FROM {ROWS})")
    for plan in plans[: len(looked_at)]:
        yield from _added(plan)


def _added(plan: Any) -> Iterator[str]:
    """Yield the casts in a bound expression that may lose something."""
    for node in _bound_nodes(plan):
        if node.get("type") != "OPERATOR_CAST" or _is_literal(node["children"][0]):
            continue
        source, target = _named(node["arguments"][0]), _named(node["return_type"])
        if not _keeps(source, target):
            yield (
                f"a value of type {source} would become {target} by itself: write CAST(… AS {target}), or TRY_CAST for "
                "what may not be one"
            )


def _bound_nodes(node: Any) -> Iterator[Any]:
    if isinstance(node, list):
        for each in node:
            yield from _bound_nodes(each)
    elif isinstance(node, dict):
        yield node
        for each in node.values():
            yield from _bound_nodes(each)


def _is_literal(node: Any) -> bool:
    while node.get("type") == "OPERATOR_CAST":
        node = node["children"][0]
    return bool(node.get("expression_class") == "BOUND_CONSTANT")


def _named(kind: Any) -> str:
    info = kind.get("type_info") or {}
    if kind["id"] == "DECIMAL" and info:
        return f"DECIMAL({info['width']},{info.get('scale', 0)})"
    return f"{_named(info['child_type'])}[]" if "child_type" in info else str(kind["id"])


def _keeps(source: str, target: str) -> bool:
    """Tell whether every value of one type is one of another, and the same one."""
    if source == target or source in ("NULL", '"NULL"') or target == "VARCHAR":
        return True
    if source.endswith("[]") and target.endswith("[]"):
        return _keeps(source[:-2], target[:-2])
    if (source, target) in (("FLOAT", "DOUBLE"), ("DATE", "TIMESTAMP")):
        return True
    if source not in INTEGERS:
        return source.startswith("DECIMAL") and target.startswith("DECIMAL")
    if target in INTEGERS:
        signed = source in _UNSIGNED or target in _WHOLE
        return signed and _WIDTH[source] + (source in _UNSIGNED and target in _WHOLE) <= _WIDTH[target]
    return target.startswith("DECIMAL") or _WIDTH[source] <= _EXACT.get(target, 0)


def problems_of_casts(expression: Any, engine: Engine) -> Sequence[str]:
    """Return what is wrong with an expression's casts, each once."""
    try:
        return list(dict.fromkeys(unwritten_casts(expression, engine)))
    except ComputingFailed as error:
        return [str(error)]
