"""What a sample of records says about each field: the form of its values, how many are missing, which there are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Final, Literal, TypeVar

import numpy as np
import pyarrow as pa
from headrace_data.columns import LARGEST_FLOAT64
from headrace_data.detectors import found_in

Element = Literal["string", "bool", "int64", "float32", "float64"]
"""The element types that a sample can tell."""
ODD_SHARE: Final = 0.05
"""Largest share of values in another form than the rest; a field with more has no type."""
FAULT_SHARE: Final = 0.005
"""Below this share of records, a missing value is taken for the record's fault and not for a habit of the stream."""
MOST_VALUES: Final = 1_000
"""Distinct values that are told apart; beyond, a field has many."""
UNIQUE_SHARE: Final = 0.98
"""Share of different values from which on a field counts as unique: producers send a record twice now and then."""
ENOUGH_RECORDS: Final = 20
"""Records from which on a value that never changes is taken for one that never will."""
_SKEWED: Final = 2.0
"""Skewness from which on amounts are better learned from by their logarithm; that of an exponential decay."""
_EXACT_FLOAT32: Final = 2**24
"""Up to here float32 holds every whole number."""
_FEWEST_STEPS: Final = 10_000
"""So many steps of float32 lie between the smallest and the largest value at least."""
INT64: Final = range(-(2**63), 2**63)
_MOST_ELEMENTS: Final = 2**20
_MOST_DIMENSIONS: Final = 4

NameT = TypeVar("NameT")
Form = tuple[str, tuple[int, ...]]
"""Kind of a value (`text`, `boolean`, `number`, or why none of them) and its shape."""
_TOO_LARGE: Final = f"numbers beyond {LARGEST_FLOAT64:g} in size, which nothing can be scaled beside"
_READABLE: Final = ("text", "boolean", "number")


@dataclass(frozen=True)
class Observed:
    """One field of the sample."""

    name: str
    records: int
    """Records of the sample."""
    type: Element | None
    """None when a pipeline cannot read the field; `reason` says why."""
    shape: tuple[int, ...] = ()
    missing: int = 0
    """Records without the field, or with null or a blank text."""
    odd: int = 0
    """Values of another form; such records are rejected."""
    low: float | int | None = None
    high: float | int | None = None
    """Smallest and largest number; None for texts and booleans."""
    values: Mapping[str | int | float, int] | None = None
    """Single values with their counts, most frequent first; None for arrays and when there are too many."""
    reason: str = ""
    different: int = 0
    """How many different single values there are, however many; 0 for arrays."""
    skewed: bool = False
    """Whether single numbers, none below zero, are mostly small and some very large, and even in their logarithms."""
    personal: Mapping[str, int] = field(default_factory=dict)
    """In how many records a text holds personal data, by kind."""

    @property
    def repeated(self) -> int:
        """How many records have a value that another one has before them; 0 for arrays."""
        return max(0, self.records - self.missing - self.odd - self.different) if self.different else 0

    @property
    def texts(self) -> list[str]:
        """The different texts of the field; none when it holds numbers or too many."""
        return [value for value in self.values or () if isinstance(value, str)]

    @property
    def nullable(self) -> bool:
        """Whether records may lack the field."""
        return self.missing >= FAULT_SHARE * self.records and self.missing > 0

    @property
    def always(self) -> bool:
        """Whether the field is one integer or text that no record lacks: such a value can name or group records."""
        return self.type in ("string", "int64") and not self.shape and not self.nullable

    @property
    def distinct(self) -> int:
        """How many different single values there are; more than MOST_VALUES when they were not counted."""
        return len(self.values) if self.values is not None else MOST_VALUES + 1

    @property
    def constant(self) -> bool:
        """Whether every record of a sample of some size has the same value: there is nothing to tell rows apart by."""
        same = self.distinct == 1 if self.low is None else self.low == self.high
        return same and not self.missing and self.records >= ENOUGH_RECORDS

    @property
    def whole_floats(self) -> bool:
        """Whether all values are single whole numbers that are written as floats, as `1.0`."""
        floats = self.type in ("float32", "float64") and not self.shape
        return floats and self.values is not None and all(float(value).is_integer() for value in self.values)

    @property
    def unique(self) -> bool:
        """Whether hardly any two records have the same value."""
        return self.always and self.values is not None and _is_unique(self.values)


def observe(records: Sequence[Mapping[str, Any]]) -> list[Observed]:
    """Return what the sample says about each field, in the order of the fullest records."""
    return [_observe(name, [record.get(name) for record in records]) for name in in_order(records)]


def in_order(records: Sequence[Mapping[NameT, Any]]) -> list[NameT]:
    """Return the names of all fields: those of the fullest record, each other one behind what it follows elsewhere.

    The order of first appearance would depend on which record happens to lack a field.
    """
    names: list[NameT] = []
    known: set[NameT] = set()
    for record in sorted(records, key=len, reverse=True):
        if record.keys() <= known:
            continue
        place = 0
        for name in record:
            if name in known:
                place = names.index(name) + 1
            else:
                names.insert(place, name)
                known.add(name)
                place += 1
    return names


def _observe(name: str, found: Sequence[Any]) -> Observed:
    values = [value for value in found if value is not None and not _is_blank(value)]
    if not values:
        return Observed(name, len(found), None, missing=len(found), reason="no record of the sample has a value")
    forms = [_form(value) for value in values]
    counts = Counter(forms)
    form, count = counts.most_common(1)[0]
    missing, odd = len(found) - len(values), len(values) - count
    if form[0] not in _READABLE:
        return Observed(name, len(found), None, missing=missing, reason=form[0])
    if counts[_TOO_LARGE, ()] > FAULT_SHARE * len(found):
        return Observed(name, len(found), None, missing=missing, reason=_TOO_LARGE)
    if odd > ODD_SHARE * len(values):
        others = ", ".join(f"{_form_text(one)} {number}" for one, number in counts.most_common(3))
        return Observed(name, len(found), None, missing=missing, reason=f"values of different forms: {others}")
    kept = [value for value, one in zip(values, forms, strict=True) if one == form]
    if form[0] != "number":
        element: Element = "string" if form[0] == "text" else "bool"
        told = Observed(name, len(found), element, missing=missing, odd=odd, values=_counted(kept))
        personal = found_in(pa.array(kept, pa.string())) if element == "string" else {}
        return replace(told, different=len(set(kept)), personal=personal)
    numbers = list(_flat(kept))
    low, high = min(numbers), max(numbers)
    return Observed(
        name,
        len(found),
        _number_type(numbers, low, high, single=not form[1]),
        form[1],
        missing,
        odd,
        low,
        high,
        None if form[1] else _counted(kept),
        different=0 if form[1] else len(set(kept)),
        personal={} if form[1] else _cards(kept),
        skewed=not form[1] and low >= 0 and _is_skewed(np.array(kept, dtype=np.float64)),
    )


def _cards(numbers: Sequence[int | float]) -> Mapping[str, int]:
    """Return what whole numbers hold that is personal, where most do: of other numbers of 16 digits one in ten may."""
    found = found_in(pa.array([str(number) for number in numbers if isinstance(number, int)], pa.string()))
    return {kind: count for kind, count in found.items() if 2 * count >= len(numbers)}


def _is_skewed(values: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    """Return whether amounts lean far to one side, and their logarithms much less."""
    plain, logarithmic = _skewness(values), _skewness(np.log1p(values))
    return plain > _SKEWED and abs(logarithmic) < plain / 2


def _skewness(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return the third moment in deviations; 0 where all values are alike."""
    scaled = values / max(float(values.max()), 1.0)
    deviation = float(scaled.std())
    return float((((scaled - scaled.mean()) / deviation) ** 3).mean()) if deviation > 0 else 0.0


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _form(value: Any) -> Form:
    if isinstance(value, bool):
        return "boolean", ()
    if isinstance(value, str):
        return "text", ()
    if isinstance(value, int | float):
        if not math.isfinite(value):
            return "numbers that are not finite", ()
        return ("number" if abs(value) <= LARGEST_FLOAT64 else _TOO_LARGE), ()
    if isinstance(value, dict):
        return "objects nested too deep, or in lists: send their fields further up", ()
    shape = _shape(value, _MOST_DIMENSIONS)
    if shape is None or not 1 <= len(shape) <= _MOST_DIMENSIONS or not 1 <= prod(shape) <= _MOST_ELEMENTS:
        return "lists that are no arrays of numbers of one shape", ()
    return "number", shape


def _shape(value: Any, most: int) -> tuple[int, ...] | None:
    """Return the shape of lists of finite numbers, nested `most` deep; None when they are something else."""
    if not isinstance(value, list):
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return () if is_number else None
    if most == 0:
        return None
    shapes = {_shape(item, most - 1) for item in value}
    inner = shapes.pop() if len(shapes) == 1 else None
    return None if inner is None else (len(value), *inner)


def _form_text(form: Form) -> str:
    kind, shape = form
    if kind not in _READABLE:
        return "something else"
    return f"array {list(shape)}" if shape else f"{kind}"


def _flat(values: Iterable[Any]) -> Iterator[int | float]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _number_type(numbers: Sequence[int | float], low: float, high: float, *, single: bool) -> Element:
    """Return int64 for single whole numbers, else the smallest float type that keeps what the numbers say.

    Arrays are floats even when the sample holds whole numbers only: a single fraction later would be refused.
    """
    if single and all(isinstance(number, int) for number in numbers) and low in INT64 and high in INT64:
        return "int64"
    largest = max(abs(low), abs(high))
    if largest > _EXACT_FLOAT32:
        return "float64"
    # Around a large number float32 has steps that may be wide beside the differences of the values.
    step = float(np.spacing(np.float32(largest)))
    return "float32" if low == high or step * _FEWEST_STEPS <= high - low else "float64"


def _counted(values: Iterable[Any]) -> Mapping[Any, int] | None:
    counts = Counter(values)
    # Uniqueness must be known for samples of any size; what is neither small nor unique has many values.
    return dict(counts.most_common()) if len(counts) <= MOST_VALUES or _is_unique(counts) else None


def _is_unique(counts: Mapping[Any, int]) -> bool:
    return len(counts) >= UNIQUE_SHARE * sum(counts.values())
