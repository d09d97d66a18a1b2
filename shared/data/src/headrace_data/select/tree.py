"""The tree of a SELECT: its outputs, the paths into the record that they read, and what it may not hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace_data.errors import SelectInvalid
from headrace_data.select.engine import Engine
from headrace_data.select.functions import DEEP, GROWING, NOW, PATTERNS, argument, literal

LONGEST: Final = 65_536
"""Most characters of a SELECT."""
MOST_OUTPUTS: Final = 1025
"""Most values that it may name: as many as a schema has fields, and the time."""
_SELECT: Final = "SELECT "
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Part = str | int
Path = tuple[Part, ...]
"""Where a value lies in a record: keys of objects and places of lists, from 1; negative ones count from the end."""
MESSAGE: Final = {"key": "$key", "headers": "$headers", "timestamp": "$timestamp"}
"""What is of the message and not of the record, by the name of its parameter."""

_ALLOWED: Final = frozenset(
    [
        "COLUMN_REF",
        "CONSTANT",
        "PARAMETER",
        "FUNCTION",
        "CAST",
        "OPERATOR",
        "COMPARISON",
        "CONJUNCTION",
        "CASE",
        "BETWEEN",
        "TYPE",
    ]
)
_NAMED: Final[Mapping[str, str]] = {
    "STAR": "expected the fields one by one, got *",
    "SUBQUERY": "expected no sub-query: each row is by itself",
    "WINDOW": "expected no window function: each row is by itself",
    "LAMBDA": "expected no -> and no lambda: for JSON in a text use json_extract_string",
    "DEFAULT": "expected a value, got DEFAULT",
    "POSITIONAL_REFERENCE": "expected names, got the number of a column",
    "COLLATE": "expected no COLLATE: fold the text with lower or strip_accents",
}
_OPERATORS: Final = frozenset(
    [
        "OPERATOR_NOT",
        "OPERATOR_IS_NULL",
        "OPERATOR_IS_NOT_NULL",
        "COMPARE_IN",
        "COMPARE_NOT_IN",
        "OPERATOR_COALESCE",
        "OPERATOR_TRY",
        "ARRAY_EXTRACT",
        "ARRAY_SLICE",
        "STRUCT_EXTRACT",
        "ARRAY_CONSTRUCTOR",
        "OPERATOR_NULLIF",
    ]
)
_WORDS: Final = (
    "all analyse analyze and anti any array as asc asof asymmetric at authorization binary both by case cast "
    "check collate collation column concurrently constraint create cross default deferrable desc describe "
    "distinct do else end except false fetch for foreign freeze from full glob group having ilike in initially "
    "inner intersect into is isnull join lambda lateral leading left like limit natural not notnull null offset "
    "on only or order outer overlaps pivot pivot_longer pivot_wider placing positional primary qualify references "
    "returning right select semi show similar some summarize symmetric table tablesample then to trailing true "
    "union unique unpack unpivot using variadic verbose when where window with "
)
_RESERVED: Final = frozenset(_WORDS.split())
"""Words that are no names unless they are quoted."""
_TRIED: Final = frozenset(("try_strptime",))
"""Functions that give NULL for what they cannot read."""


@dataclass(frozen=True)
class Leaf:
    """A value that a record, or the message around it, has."""

    path: Path
    of_message: bool = False
    """Whether the first part of the path is one of MESSAGE."""

    @property
    def column(self) -> str:
        """The name of its column. DuckDB takes `a` and `A` for one name, so the places of capitals follow the name."""
        text = str(self)
        capitals = sum(1 << place for place, letter in enumerate(text) if "A" <= letter <= "Z")
        return f"{text} #{capitals:x}" if capitals else text

    def __str__(self) -> str:
        first, *others = self.path
        text = str(first) if self.of_message else _name(str(first))
        return text + "".join(f"[{part}]" if isinstance(part, int) else _step(part, self) for part in others)


@dataclass(frozen=True)
class Output:
    """One value of the row that a SELECT makes."""

    name: str
    expression: Any
    """Its tree."""
    line: int
    """Its line in the SELECT, from 1."""

    @property
    def leaf(self) -> Leaf | None:
        """The value that is taken as it is; None of one that is computed."""
        return leaf_of(self.expression)

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"line {self.line}, {self.name}" if self.name else f"line {self.line}"


def _name(text: str) -> str:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _RESERVED | NOW
    return text if plain else '"' + text.replace('"', '""') + '"'


def _step(part: str, leaf: Leaf) -> str:
    return f"['{part}']" if leaf.of_message else f".{_name(part)}"


def leaf_of(node: Any) -> Leaf | None:
    """Return the value that an expression names without computing anything; None of any other expression."""
    kind = node.get("type")
    if kind == "COLUMN_REF":
        return Leaf(tuple(node["column_names"]))
    if kind == "VALUE_PARAMETER":
        return Leaf((f"${node['identifier']}",), of_message=True)
    if kind in ("ARRAY_EXTRACT", "STRUCT_EXTRACT"):
        held, at = node["children"]
        inner, part = leaf_of(held), _part(at)
        return Leaf((*inner.path, part), inner.of_message) if inner and part is not None else None
    return None


def _part(node: Any) -> Part | None:
    text = literal(node)
    if text is None:
        return None
    if node["literal"]["kind"] == "INTEGER":
        return int(text) or None
    return text if node["literal"]["kind"] == "STRING" else None


def nodes(node: Any) -> Iterator[Any]:
    """Yield the expressions in an expression, itself first. What a leaf is made of is not looked into."""
    if isinstance(node, list):
        for each in node:
            yield from nodes(each)
    elif isinstance(node, dict):
        if "class" in node:
            yield node
            if leaf_of(node) is not None:
                return
        for each in node.values():
            yield from nodes(each)


def leaves(node: Any) -> Iterator[Leaf]:
    """Yield the values that an expression reads, each as often as it stands there."""
    for each in nodes(node):
        if leaf := leaf_of(each):
            yield leaf


def replaced(node: Any, change: Any) -> Any:
    """Return a tree in which `change` has put something into the place of expressions, where it does not return None.

    Inner expressions are changed before those that hold them; leaves are changed as a whole.
    """
    if isinstance(node, list):
        return [replaced(each, change) for each in node]
    if not isinstance(node, dict):
        return node
    if "class" in node and leaf_of(node) is not None:
        found = change(node)
        return node if found is None else found
    again = {key: replaced(value, change) for key, value in node.items()}
    found = change(again) if "class" in again else None
    return again if found is None else found


def column(name: str) -> Any:
    """Return the expression that reads a column."""
    return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": [name]}


def tried(expression: Any) -> list[tuple[Any, list[Any]]]:
    """Return the places that give NULL for what cannot be read, each with what it tries to read."""
    found: list[tuple[Any, list[Any]]] = []
    for node in nodes(expression):
        if node["class"] == "CAST" and node.get("try_cast"):
            found.append((node, [node["child"]]))
        elif node.get("type") == "OPERATOR_TRY":
            found.append((node, [column_of(leaf) for leaf in leaves(node)]))
        elif str(node.get("function_name", "")).lower() in _TRIED:
            found.append((node, [argument(node, 0)]))
    return found


def column_of(leaf: Leaf) -> Any:
    """Return the expression that reads a leaf's column."""
    return column(leaf.column)


def outputs_of(text: str, engine: Engine, refused: Mapping[str, str]) -> list[Output]:
    """Return what a SELECT names, in order. Raises SelectInvalid with every problem of its form."""
    node = _node(text, engine)
    source = _SELECT + text
    outputs = [_output(each, source) for each in node["select_list"]]
    problems: list[str] = []
    if len(outputs) > MOST_OUTPUTS:
        raise SelectInvalid([f"expected at most {MOST_OUTPUTS} values, got {len(outputs)}"])
    for output in outputs:
        problems += [f"{output.place}: {problem}" for problem in dict.fromkeys(_faults(output, source, refused))]
    if problems:
        raise SelectInvalid(problems)
    return outputs


def _node(text: str, engine: Engine) -> Any:
    """Return the one SELECT of a text. Raises SelectInvalid."""
    if len(text) > LONGEST:
        raise SelectInvalid([f"expected at most {LONGEST} characters, got {len(text)}"])
    try:
        tree = engine.parsed(_SELECT + text)
    except RecursionError as error:
        raise SelectInvalid(["expected expressions that are less deep"]) from error
    if tree["error"] and tree.get("error_type") == "not implemented":
        raise SelectInvalid(["expected one list of values, got another statement"])
    if tree["error"]:
        place = int(tree.get("position", len(_SELECT)))
        hint = ": leave the word SELECT out" if text.lstrip()[:7].lower().strip() == "select" else ""
        raise SelectInvalid([f"line {_line(_SELECT + text, place)}: {tree['error_message']}{hint}"])
    if len(tree["statements"]) != 1:
        raise SelectInvalid([f"expected one list of values, got {len(tree['statements'])} statements"])
    node = tree["statements"][0]["node"]
    told = _clauses(node)
    if told:
        raise SelectInvalid([f"expected values and their names alone, got {', '.join(told)}"])
    return node


def _clauses(node: Any) -> list[str]:
    if node["type"] != "SELECT_NODE":
        return ["UNION, INTERSECT or EXCEPT" if node["type"] == "SET_OPERATION_NODE" else node["type"]]
    held = {
        "FROM": node["from_table"]["type"] != "EMPTY",
        "WHERE": node["where_clause"],
        "GROUP BY": node["group_expressions"] or node["aggregate_handling"] != "STANDARD_HANDLING",
        "HAVING": node["having"],
        "QUALIFY": node["qualify"],
        "SAMPLE": node["sample"],
        "WITH": node["cte_map"]["map"],
        "DISTINCT, ORDER BY or LIMIT": node["modifiers"],
    }
    return [name for name, there in held.items() if there]


def _line(source: str, place: int) -> int:
    return source.encode()[:place].count(b"\n") + 1


def _output(node: Any, source: str) -> Output:
    name = node.get("alias", "")
    leaf = leaf_of(node)
    if not name and leaf is not None and isinstance(leaf.path[-1], str):
        name = leaf.path[-1].removeprefix("$") if leaf.of_message else leaf.path[-1]  # as SQL names a column
    expression = {**node, "alias": ""}
    places = [each["query_location"] for each in nodes(node) if each.get("query_location", 2**63) < 2**62]
    return Output(name, expression, _line(source, min(places, default=0)))


def _faults(output: Output, source: str, refused: Mapping[str, str]) -> Iterator[str]:
    if not output.name:
        yield "expected a name behind AS"
    for node in nodes(output.expression):
        yield from _faults_of(node, source, refused)


def _faults_of(node: Any, source: str, refused: Mapping[str, str]) -> Iterator[str]:
    kind, leaf = node["class"], leaf_of(node)
    if leaf is not None:
        yield from _faults_of_leaf(leaf, node, source)
    elif kind not in _ALLOWED:
        yield _NAMED.get(kind, f"expected an expression of one row, got {kind.lower()}")
    elif kind == "OPERATOR":
        if node["type"] not in _OPERATORS:
            yield f"expected an expression of one row, got {node['type'].lower()}"
        elif node["type"].startswith("ARRAY_") and leaf_of(node["children"][0]) is not None:
            yield "expected a whole number or a quoted name in the brackets behind a path"
    elif kind == "FUNCTION":
        yield from _faults_of_function(node, refused)


def _faults_of_leaf(leaf: Leaf, node: Any, source: str) -> Iterator[str]:
    first = leaf.path[0]
    if leaf.of_message:
        if first not in MESSAGE.values():
            yield f"expected $key, $headers['name'] or $timestamp, got {first}"
        elif len(leaf.path) != (2 if first == "$headers" else 1) or isinstance(leaf.path[-1], int):
            yield "expected $headers['name']" if first == "$headers" else f"expected {first} by itself"
    elif leaf.path == (first,) and str(first).lower() in NOW:
        place = node.get("query_location", 0)
        if source.encode()[place : place + 1] != b'"':
            yield f'expected nothing that is of now or of a user, got {first}; a field of that name is "{first}"'


def _faults_of_function(node: Any, refused: Mapping[str, str]) -> Iterator[str]:
    name = str(node["function_name"]).lower()
    path = node.get("qualified_name", {}).get("path", [name])
    if len(path) > 1 or name not in refused:
        yield f"unknown function {'.'.join(map(str, path))}"
    elif refused[name]:
        yield f"{name} is not taken: {refused[name]}"
    elif node.get("filter") or node.get("distinct") or node.get("order_bys", {}).get("orders"):
        yield f"expected {name} of one row, got FILTER, DISTINCT or ORDER BY in it"
    elif name in PATTERNS:
        yield from _faults_of_pattern(name, argument(node, PATTERNS[name]))
    elif name in GROWING and (again := argument(node, GROWING[name])) is not None and literal(again) is None:
        yield f"expected a literal for argument {GROWING[name] + 1} of {name}, which may come into its text many times"


def _faults_of_pattern(name: str, pattern: Any) -> Iterator[str]:
    if any(True for _ in leaves(pattern)):
        yield f"expected a pattern of {name} that is not of the record"
    elif name.startswith(("json", "->")) and any(DEEP in (literal(each) or "") for each in nodes(pattern)):
        yield f"expected a path without {DEEP} for {name}"
