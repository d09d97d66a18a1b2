"""Measures by slice: rows that have one value of a field, such as those of city=Oslo, measured by themselves.

A mean over all rows hides a model that is bad for some of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, Protocol

import numpy as np

from headrace_data.tasks.gate import Gate
from headrace_data.tasks.measure import Array, Measure, Metrics
from headrace_data.tasks.task import Answers, Scores

MOST_SLICES: Final = 20
"""Values of a field that are told apart, the commonest; the rows of all others are one slice."""
_SLICE: Final = "slice/"
"""How the measurements of slices begin: slice/city=Oslo/recall."""
_ROWS: Final = "rows"
"""Last part of the name of a slice's number of rows."""
_LONGEST: Final = 64
"""Letters of a value that a slice is called by: texts may be long, and events have a size."""
_FLAGS: Final = {"0": "false", "1": "true"}


class Named(Protocol):
    """A field of records."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def type(self) -> str:
        """Type of its values."""


@dataclass(frozen=True)
class Slices:
    """Into which slices rows fall."""

    fields: Sequence[Named] = ()
    """By which they are told apart. A row is in one slice of each."""
    common: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By field, the slices of its commonest values."""

    @staticmethod
    def of(fields: Sequence[Named], rows: Iterable[Mapping[str, Array]]) -> Slices:
        """Return the slices of some rows, which come batch by batch: arrays by the names of the fields, each [rows].

        Of several values that are equally common the first in order are told apart.
        """
        counts: dict[str, Counter[str]] = {each.name: Counter() for each in fields}
        for columns in rows if fields else ():
            for each in fields:
                names, places = _names(each, columns[each.name])
                counts[each.name].update(Counter(names[place] for place in places.tolist()))
        return Slices(fields, {name: frozenset(_commonest(counted)) for name, counted in counts.items()})

    def places(self, columns: Mapping[str, Array]) -> Iterable[tuple[str, Array]]:
        """Yield each slice that some rows fall into, with their places."""
        for each in self.fields:
            names, places = _names(each, columns[each.name])
            common = self.common[each.name]
            called = np.array([name if name in common else f"{each.name} others" for name in names], dtype=object)
            of = called[places]
            for name in sorted(set(called.tolist())):
                yield name, np.flatnonzero(of == name)


class SliceScores:
    """Measurements of rows by slice, of rows that come batch by batch."""

    def __init__(self, slices: Slices, scores: Callable[[], Scores]) -> None:
        """`scores` returns what measures the rows of one slice."""
        self._slices = slices
        self._new = scores
        self._scores: dict[str, Scores] = {}
        self._rows = Counter[str]()

    def add(self, columns: Mapping[str, Array], answers: Answers, truth: Array) -> None:
        """Add rows: the fields that slices are told apart by, what was answered, and the label; at least one."""
        for name, places in self._slices.places(columns):
            scores = self._scores.setdefault(name, self._new())
            scores.add({output: given[places] for output, given in answers.items()}, truth[places])
            self._rows[name] += len(places)

    def metrics(self) -> dict[str, float]:
        """Return slice/<field>=<value>/<measure> of each slice, and slice/<field>=<value>/rows.

        "<field> others" are the rows of all values that are not among the commonest. A measure that says nothing of a
        slice is left out.
        """
        found: dict[str, float] = {}
        for name, scores in sorted(self._scores.items()):
            found[f"{_SLICE}{name}/{_ROWS}"] = float(self._rows[name])
            told = {measure: value for measure, value in scores.quality().items() if math.isfinite(value)}
            found |= {f"{_SLICE}{name}/{measure}": value for measure, value in told.items()}
        return found


@dataclass(frozen=True)
class Slice:
    """What was measured of one slice."""

    name: str
    """Such as city=Oslo."""
    rows: int
    metrics: Metrics


def slices_of(metrics: Metrics) -> list[Slice]:
    """Return the slices among the measurements of a version or a variant, in order."""
    found: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        if name.startswith(_SLICE):
            slice_name, _, measure = name.removeprefix(_SLICE).rpartition("/")
            found.setdefault(slice_name, {})[measure] = value
    return [Slice(name, int(held.pop(_ROWS, 0)), held) for name, held in sorted(found.items())]


def worst_slice(metrics: Metrics, measure: Measure, least_rows: int) -> Slice | None:
    """Return the slice of at least so many rows that does worst by a measure; None where none was measured."""
    known = (each for each in worst_first(metrics, measure) if each.rows >= least_rows and measure.name in each.metrics)
    return next(known, None)


def worst_first(metrics: Metrics, measure: Measure) -> list[Slice]:
    """Return the slices by a measure, the worst first; those of which it says nothing last."""
    sign = 1.0 if measure.better == "more" else -1.0
    return sorted(slices_of(metrics), key=lambda each: sign * each.metrics.get(measure.name, sign * math.inf))


def in_each_slice(measure: Measure, least_rows: int) -> Gate:
    """Return the gate of what each slice of at least so many rows must reach by a measure; it judges fp32 too."""

    def measured(own: Metrics, _: Metrics) -> float:
        worst = worst_slice(own, measure, least_rows)
        return worst.metrics[measure.name] if worst else math.nan

    def told(own: Metrics, _: Metrics) -> str:
        return _told(worst_slice(own, measure, least_rows), least_rows)

    return Gate(f"{_SLICE}{measure.name}", "slices", measured, math.nan, measure.better == "more", True, told)


def not_worse_in_slices(measure: Measure, least_rows: int) -> Gate:
    """Return the gate of how much a variant may be worse than fp32 in any slice of at least so many rows.

    In the measure's unit, as of all rows. What is lost in one slice may be won in another, so that the whole hides it.
    """
    sign = 1.0 if measure.better == "more" else -1.0

    def most(own: Metrics, reference: Metrics) -> tuple[float, Slice | None]:
        before = {each.name: each.metrics.get(measure.name, math.nan) for each in slices_of(reference)}
        lost = [
            (sign * (before.get(each.name, math.nan) - each.metrics.get(measure.name, math.nan)), each)
            for each in slices_of(own)
            if each.rows >= least_rows
        ]
        return max((each for each in lost if not math.isnan(each[0])), key=itemgetter(0), default=(math.nan, None))

    def told(own: Metrics, reference: Metrics) -> str:
        return _told(most(own, reference)[1], least_rows)

    return Gate(f"{_SLICE}worse/{measure.name}", "worse_in_slices", lambda *both: most(*both)[0], 0.0, told=told)


def _told(found: Slice | None, least_rows: int) -> str:
    return f"of {found.name}, {found.rows} rows" if found else f"of no slice of {least_rows} rows"


def of_slice(name: str) -> bool:
    """Tell whether a measurement, or a gate, is of slices."""
    return name.startswith(_SLICE)


def _names(of: Named, values: Array) -> tuple[list[str], Array]:
    """Return what the slices of some values are called, and the place of each value's name."""
    distinct, places = np.unique(values, return_inverse=True)
    return [f"{of.name}={_text(of, value)}" for value in distinct.tolist()], places


def _commonest(counted: Counter[str]) -> list[str]:
    return sorted(counted, key=lambda name: (-counted[name], name))[:MOST_SLICES]


def _text(of: Named, value: Any) -> str:
    """Return a value as a text; what is missing as an empty one, and whole numbers that may be missing as such."""
    if isinstance(value, float):
        value = "" if math.isnan(value) else f"{value:.0f}"
    text = _FLAGS.get(str(value), str(value)) if of.type == "bool" else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
