"""Which functions a SELECT may call: those whose answer depends on their arguments alone, and stays in bounds.

DuckDB says of each of its functions whether equal arguments give equal answers (its stability). What it calls
CONSISTENT is taken but for the few below. Aggregates, windows and functions that give tables are of other types and
never taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

SIZE: Final = "a number says how large its value becomes, and memory has an end"
TIME: Final = "its time grows with the product of two lengths"
INNER: Final = "it is of DuckDB's own inside, and another release may answer otherwise"

REFUSED: Final[Mapping[str, str]] = {
    "repeat": SIZE,
    "lpad": SIZE,
    "rpad": SIZE,
    "range": SIZE,
    "generate_series": SIZE,
    "list_resize": SIZE,
    "array_resize": SIZE,
    "bitstring": SIZE,
    "printf": SIZE,
    "format": SIZE,
    "path_join": SIZE,
    "levenshtein": TIME,
    "editdist3": TIME,
    "damerau_levenshtein": TIME,
    "jaro_similarity": TIME,
    "jaro_winkler_similarity": TIME,
    "hash": INNER,
    "version": INNER,
    "alias": INNER,
    "index_key": INNER,
    "create_sort_key": INNER,
    "icu_sort_key": INNER,
    "constant_or_null": INNER,
    "json_serialize_sql": INNER,
    "json_serialize_plan": INNER,
    "json_deserialize_sql": INNER,
    "parse_duckdb_log_message": INNER,
    "age": "with one argument it counts from the day of now: use date_diff",
}
"""Functions that DuckDB calls consistent and that are refused all the same, and why."""

MACROS: Final = frozenset(
    [
        "nullif",
        "if",
        "split_part",
        "date_add",
        "days_in_month",
        "fdiv",
        "array_to_string",
        "list_append",
        "list_prepend",
        "list_reverse",
        "list_sum",
        "list_avg",
        "list_min",
        "list_max",
        "list_count",
        "list_first",
        "list_last",
        "list_median",
        "list_product",
        "list_any_value",
    ]
)
"""What DuckDB writes in terms of other functions, and says no stability of."""

GROWING: Final[Mapping[str, int]] = {
    "replace": 2,
    "regexp_replace": 2,
    "array_to_string": 1,
    "list_aggregate": 2,
    "concat_ws": 0,
    "overlay": 1,
}
"""Which argument of a function may come into its text again and again: a literal, so that its length is known."""

PATTERNS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("~~", "!~~", "~~*", "!~~*", "~~~"), 1),
    **dict.fromkeys(("like_escape", "ilike_escape", "not_like_escape", "not_ilike_escape"), 1),
    **dict.fromkeys(("json_extract", "json_extract_path", "json_extract_string", "json_extract_path_text", "->>"), 1),
    **dict.fromkeys(("json_value", "json_exists", "strftime", "strptime", "try_strptime"), 1),
}
"""Which argument of a function is a pattern: none of the record's, which may take long, or find the same many times."""
DEEP: Final = ".."
"""In a path of JSON: all that lies in all that lies below, which grows with the square of the depth."""

WIDER: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        ("to_json", "json_quote", "json_object", "json_array", "json_pretty", "url_encode", "translate"), 8
    ),
    **dict.fromkeys(("hex", "to_hex", "base64", "to_base64", "regexp_escape", "upper", "lower", "nfc_normalize"), 3),
    **dict.fromkeys(("bin", "to_binary"), 8),
}
"""By how much a text may become longer in others."""

MOST_GROWTH: Final = 256
"""How many times the bytes of a record a SELECT may make of it at most."""

NOW: Final = frozenset(
    [
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
        "current_user",
        "session_user",
        "user",
        "current_role",
        "current_schema",
        "current_catalog",
        "current_database",
    ]
)
"""Words that call a function without brackets."""


def refusals(known: Iterable[tuple[str, str, str]]) -> Mapping[str, str]:
    """Return of each of DuckDB's functions (name, type, stability) why it is refused; empty for one that is taken."""
    reasons: dict[str, str] = {}
    for cased, kind, stability in known:
        name = cased.lower()
        taken = (kind == "scalar" and stability == "CONSISTENT") or name in MACROS
        reason = "" if taken else _REASONS.get(kind, "its answer does not depend on its arguments alone")
        # A name has several where its overloads differ; some depend on the time zone, which is always UTC here.
        reasons[name] = "" if taken or reasons.get(name) == "" else reason
    for name in reasons:
        if name in REFUSED or name.startswith("__"):
            reasons[name] = REFUSED.get(name, INNER)
    return reasons


_REASONS: Final[Mapping[str, str]] = {
    "aggregate": "it is an aggregate, and each row is by itself",
    "window": "it is a window function, and each row is by itself",
    "table": "it gives a table, and may read files",
    "table_macro": "it gives a table, and may read files",
    "pragma": "it is a setting",
    "macro": "it is of the catalogue or another macro of DuckDB that is not taken",
}


def growth(node: Any) -> int:
    """Return how many times the bytes of a record an expression of a tree may make of it, at most; generously."""
    if isinstance(node, list):
        return sum(map(growth, node))
    if not isinstance(node, dict):
        return 0
    if node.get("class") in ("COLUMN_REF", "PARAMETER"):
        return 1
    inner = sum(map(growth, node.values()))
    name = str(node.get("function_name", "")).lower()
    if name in GROWING and inner:
        again = literal(argument(node, GROWING[name]))
        return inner * (1 + len((again or "").encode()))
    return inner * WIDER.get(name, 1)


def argument(node: Any, place: int) -> Any:
    """Return an argument of a function of a tree, counted from 0; None where it has fewer."""
    arguments = node.get("arguments", [])
    return arguments[place].get("expression") if place < len(arguments) else None


def literal(node: Any) -> str | None:
    """Return the text of a literal of a tree; None of anything else."""
    if isinstance(node, dict) and node.get("class") == "CONSTANT":
        return str(node.get("literal", {}).get("text", ""))
    return None
