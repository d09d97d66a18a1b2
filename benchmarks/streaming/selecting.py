"""What a SELECT costs: records of several shapes through the checks, without a broker, in one process.

`python -m benchmarks.streaming.selecting` prints rows per CPU second, the best of a few passes.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from headrace_data.records import RecordChecker
from headrace_data.spec import Stream

from benchmarks import figures

ROWS: Final = 40_000
AT_ONCE: Final = 5_000
PASSES: Final = 6

Fields = dict[str, str]
FLAT: Final[Fields] = {
    "id": "string",
    **{f"f{number}": "float32" for number in range(8)},
    "colour": "string",
    "member": "bool",
    "label": "string",
}
CAST: Final = ", ".join(
    f"TRY_CAST({name} AS DOUBLE) AS {name}" if kind == "float32" else name for name, kind in FLAT.items()
)
CHANGES: Final[Fields] = {
    "id": "string",
    "city": "string",
    "amount": "float32",
    "price": "float32",
    "age": "int32",
    "newsletter": "bool",
    "seen": "int64",
    "plan": "string",
    "width": "float32",
    "height": "float32",
    "tag": "string",
    "op": "string",
    "label": "string",
}
SELECT: Final = """payload.after.id AS id, payload.after.city AS city,
TRY_CAST(replace(payload.after.amount, ',', '.') AS DOUBLE) AS amount,
TRY_CAST(nullif(payload.after.price, 'NA') AS DOUBLE) AS price,
TRY_CAST(nullif(payload.after.age, 'n/a') AS INTEGER) AS age,
lower(trim(payload.after.newsletter)) IN ('yes', 'y', 'true') AS newsletter,
epoch_us(try_strptime(payload.after.seen, '%d.%m.%Y %H:%M')) AS seen,
nullif(trim(payload.after.plan), '') AS plan,
TRY_CAST(payload.after.width AS DOUBLE) AS width, TRY_CAST(payload.after.height AS DOUBLE) AS height,
upper(payload.after.tag) AS tag, payload.op AS op, payload.after.label AS label"""


@dataclass(frozen=True)
class Shape:
    """Records of one form, and how they become rows."""

    name: str
    fields: Fields
    select: str | None
    record: Callable[[int], dict[str, Any]]


def flat(number: int, write: Callable[[float], Any]) -> dict[str, Any]:
    """Return a record that is a row, its eight numbers written in some way."""
    numbers = {f"f{place}": write(round((number * 37 + place * 11) % 9973 / 7, 3)) for place in range(8)}
    return {"id": f"r{number}", **numbers, "colour": "red", "member": number % 2 == 0, "label": "ab"[number % 2]}


def change(number: int) -> dict[str, Any]:
    """Return an event of change data capture with values as people and spreadsheets write them."""
    after = {
        "id": f"r{number}",
        "city": "Bern",
        "amount": f"{number % 100},5",
        "price": "NA" if number % 9 == 0 else str(number % 50),
        "age": "n/a" if number % 7 == 0 else str(number % 90),
        "newsletter": " Yes" if number % 2 else "no",
        "seen": f"01.02.2026 10:{number % 60:02}",
        "plan": ("basic", "", " pro")[number % 3],
        "width": "1.5",
        "height": str(number % 997 / 7),
        "tag": "ab",
        "label": "ab"[number % 2],
    }
    return {"schema": {}, "payload": {"op": "c", "before": None, "after": after}}


SHAPES: Final = (
    Shape("12 flat fields, no SELECT", FLAT, None, lambda number: flat(number, float)),
    Shape("12 flat fields, by their names", FLAT, ", ".join(FLAT), lambda number: flat(number, float)),
    Shape("12 flat fields, 8 TRY_CAST of numbers", FLAT, CAST, lambda number: flat(number, float)),
    Shape("12 flat fields, 8 TRY_CAST of texts", FLAT, CAST, lambda number: flat(number, str)),
    Shape("13 fields of a change, 9 computed", CHANGES, SELECT, change),
)


def rate(shape: Shape) -> float:
    """Return how many records of a shape are checked in a CPU second."""
    schema = [
        {"name": name, "type": kind, "nullable": name != "id", "role": "id" if name == "id" else "feature"}
        for name, kind in shape.fields.items()
    ]
    document = {"topic": "t", "schema": schema} | ({"select": shape.select} if shape.select else {})
    checker = RecordChecker(Stream.model_validate_json(json.dumps(document)))
    values = [json.dumps(shape.record(number)).encode() for number in range(ROWS)]
    gc.collect()
    gc.freeze()  # as a service does before its first record
    best = 0.0
    for _ in range(PASSES):
        started = time.process_time()
        for first in range(0, ROWS, AT_ONCE):
            some = values[first : first + AT_ONCE]
            checked = checker.check(some, [0] * len(some), range(len(some)))
            assert not checked.rejected, checked.rejected[0]
        best = max(best, ROWS / (time.process_time() - started))
    return best


def main() -> None:
    """Print the table."""
    lines = [[shape.name, f"{rate(shape):,.0f}"] for shape in SHAPES]
    print(figures.table([f"{ROWS:,} records, {AT_ONCE:,} at a time", "rows per CPU second"], lines))


if __name__ == "__main__":
    main()
