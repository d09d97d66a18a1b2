"""The charts of a report, each a function of plain numbers that returns SVG."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal

from headrace_client.report.markup import Html, element
from headrace_client.report.measures import Bin, Histogram
from headrace_client.report.svg import HEIGHT, WIDTH, Frame, box, cut, dot, drawing, line, short_number, text

SERIES: Final = 6
"""Colours that tell series apart; further series begin anew."""
_MATRIX: Final = 250
"""Width of a confusion matrix, unless its classes need more."""
_STRONG: Final = 0.45
"""Share of a row from which on a cell is so strong that its text takes the other colour."""


def histogram_chart(bars: Histogram, description: str, x_label: str, *, series: int = 1, small: bool = False) -> Html:
    """Return bars of counts."""
    width, height = (300, 150) if small else (WIDTH, HEIGHT)
    # Whole numbers have a bin each, from half below to half above: a tick in between would name nothing.
    whole = all(edge % 1 == 0.5 for edge in bars.edges)
    frame = Frame(bars.edges[0], bars.edges[-1], 0, max(bars.counts, default=0) or 1, width, height, whole)
    marks = [
        box(
            frame.x(low) + 0.5,
            frame.y(count),
            frame.x(high) - 0.5,
            frame.y(0),
            f"fill-{series}",
            f"{short_number(low)} to {short_number(high)}: {count}",
        )
        for low, high, count in zip(bars.edges, bars.edges[1:], bars.counts, strict=False)
        if count
    ]
    return frame.chart(description, marks, x_label, "rows")


def lines_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    description: str,
    x_label: str,
    y_label: str,
    *,
    marked_x: float | None = None,
    floor: float | None = None,
) -> Html:
    """Return one line for each series; a dashed line stands at `marked_x`."""
    xs = [x for points in series.values() for x, _ in points] or [0.0, 1.0]
    ys = [y for points in series.values() for _, y in points if math.isfinite(y)] or [0.0, 1.0]
    low, high = min(ys) if floor is None else min(floor, *ys), max(ys)
    margin = (high - low) * 0.05 or 0.5
    frame = Frame(min(xs), max(max(xs), min(xs) + 1), low if floor is not None else low - margin, high + margin)
    marks = []
    if marked_x is not None:
        ends = [(frame.x(marked_x), frame.y(frame.y_low)), (frame.x(marked_x), frame.y(frame.y_high))]
        marks.append(line(ends, "reference"))
    for number, points in enumerate(series.values()):
        finite = [(frame.x(x), frame.y(y)) for x, y in points if math.isfinite(y)]
        colour = number % SERIES + 1
        marks.append(line(finite, f"line-{colour}"))
        if len(finite) == 1:
            marks.append(dot(*finite[0], 3, f"fill-{colour}"))
    return frame.chart(description, marks, x_label, y_label)


def grouped_bars(groups: Mapping[str, Sequence[float]], description: str, y_label: str) -> Html:
    """Return bars side by side for each group, one colour for each place in a group. For a dozen groups at most."""
    highest = max((value for values in groups.values() for value in values), default=0) or 1
    frame = Frame(0, len(groups), 0, highest)
    marks = []
    for number, (name, values) in enumerate(groups.items()):
        width = 0.8 / max(len(values), 1)
        for place, value in enumerate(values):
            left = number + 0.1 + place * width
            told = f"{name}: {short_number(value)}"
            marks.append(
                box(frame.x(left), frame.y(value), frame.x(left + width) - 1, frame.y(0), f"fill-{place + 1}", told)
            )
    return frame.chart(description, marks, "", y_label, list(groups))


def matrix_chart(matrix: Sequence[Sequence[int]], names: Sequence[str], description: str) -> Html:
    """Return a confusion matrix: a cell is as strong as its share of the row. For 20 classes at most."""
    cell = min(max(_MATRIX / len(names), 26), 64)
    left, top, size = 92, 46, cell * len(names)
    turned = f"rotate(-90 12 {top + size / 2:g})"
    marks = [
        text("answered", left + size / 2, 14, class_="label"),
        element("text", "true", x=12, y=top + size / 2, text_anchor="middle", class_="label", transform=turned),
    ]
    for row, counts in enumerate(matrix):
        middle = (row + 0.5) * cell
        marks.append(text(cut(names[row], 10), left - 6, top + middle + 4, "end"))
        marks.append(text(cut(names[row], int(cell / 6)), left + middle, top - 8))
        for column, count in enumerate(counts):
            told = f"{names[row]} answered as {names[column]}: {count} of {sum(counts)}"
            share = count / (sum(counts) or 1)
            marks += _cell(left + column * cell, top + row * cell, cell, count, share, told, right=row == column)
    return drawing(description, max(left + size + 8, WIDTH), top + size + 8, *marks)


def _cell(x: float, y: float, size: float, count: int, share: float, told: str, *, right: bool) -> list[Html]:
    marks = [box(x + 1, y + 1, x + size - 1, y + size - 1, "cell", told)]
    if count:
        colour, opacity = "cell-right" if right else "cell-wrong", 0.15 + 0.85 * share
        marks.append(box(x + 1, y + 1, x + size - 1, y + size - 1, colour, told, fill_opacity=opacity))
        inside = "cell-text strong" if share > _STRONG else "cell-text"
        marks.append(text(short_number(count), x + size / 2, y + size / 2 + 4, class_=inside))
    return marks


def reliability_chart(bins: Sequence[Bin], description: str) -> Html:
    """Return a reliability diagram: accuracy by confidence; a perfectly calibrated model lies on the diagonal."""
    frame = Frame(0, 1, 0, 1)
    marks = []
    for one in bins:
        if one.rows:
            told = f"confidence {one.confidence:.2f}: accuracy {one.accuracy:.2f} of {one.rows} rows"
            left, right = frame.x(one.low) + 0.5, frame.x(one.high) - 0.5
            marks.append(box(left, frame.y(one.accuracy), right, frame.y(0), "fill-1", told))
    marks.append(line([(frame.x(0), frame.y(0)), (frame.x(1), frame.y(1))], "reference"))
    return frame.chart(description, marks, "confidence", "accuracy")


def scatter_chart(
    points: Sequence[tuple[float, float]],
    description: str,
    x_label: str,
    y_label: str,
    *,
    reference: Literal["diagonal", "zero"],
) -> Html:
    """Return points, and a line where both are equal (`diagonal`) or where there is no error (`zero`)."""
    xs, ys = [x for x, _ in points] or [0.0], [y for _, y in points] or [0.0]
    if reference == "diagonal":
        low, high = min(*xs, *ys), max(*xs, *ys)
        frame = Frame(*_padded(low, high), *_padded(low, high))
        ends = [(frame.x(frame.x_low), frame.y(frame.x_low)), (frame.x(frame.x_high), frame.y(frame.x_high))]
    else:
        widest = max(abs(y) for y in ys)
        frame = Frame(*_padded(min(xs), max(xs)), *_padded(-widest, widest))
        ends = [(frame.x(frame.x_low), frame.y(0)), (frame.x(frame.x_high), frame.y(0))]
    marks = [dot(frame.x(x), frame.y(y), 2.5, "point") for x, y in points]
    return frame.chart(description, [*marks, line(ends, "reference")], x_label, y_label)


def frontier_chart(
    points: Mapping[str, tuple[float, float, float]],
    description: str,
    x_label: str,
    y_label: str,
    *,
    best: Collection[str],
) -> Html:
    """Return variants by latency and quality, their area by size; those that are not among the `best` are pale.

    Colours tell them apart, in order: names beside bubbles that lie close together would run into each other.
    """
    xs, ys = [x for x, _, _ in points.values()], [y for _, y, _ in points.values()]
    span = (max(ys) - min(ys)) or abs(max(ys)) * 0.02 or 1.0
    frame = Frame(0, max(xs) * 1.25 or 1.0, min(ys) - span * 0.6, max(ys) + span * 0.6)
    largest = max(size for _, _, size in points.values()) or 1.0
    marks = []
    for number, (name, (x, y, size)) in enumerate(points.items()):
        radius = 5 + 13 * math.sqrt(size / largest)
        class_ = f"bubble fill-{number % SERIES + 1}{'' if name in best else ' outdone'}"
        marks.append(dot(frame.x(x), frame.y(y), radius, class_, name))
    return frame.chart(description, marks, x_label, y_label)


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return low - margin, high + margin
