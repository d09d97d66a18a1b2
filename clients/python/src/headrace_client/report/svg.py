"""The ground of every chart: a frame with two linear scales, its axes, and marks in it.

Colours come from the page's style sheet by class, so a chart follows the reader's light or dark theme.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace_client.report.markup import Html, element, joined

WIDTH: Final = 360
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 10, 38
_HUGE: Final = 1e12
"""From here on a number is shown as a power of ten."""


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers within [low, high], at most `most` + 1 of them: steps of 1, 2 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / most
    if rough < sys.float_info.min:
        return [low]  # so little that no power of ten has its full digits
    power = 10.0 ** math.floor(math.log10(rough))
    # What lies at both sides of zero has room for fewer steps than its length: the steps are counted, not reckoned.
    spans = [_span(low, high, factor * power) for factor in (1, 2, 5, 10)]
    step, first, last = next((span for span in spans if span[2] - span[1] <= most), spans[-1])
    return [number * step for number in range(first, last + 1)]


def _span(low: float, high: float, step: float) -> tuple[float, int, int]:
    """Return a step, and the first and the last multiple of it within [low, high]."""
    return step, math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)


def short_number(value: float, digits: int = 4) -> str:
    """Return a number as an axis shows it: so many digits at most, thousands as k and millions as M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if unit <= abs(value) < _HUGE:
            scaled = value / (1e3 if letter == "k" else unit)
            return f"{scaled:.{digits}g}{letter}"
    return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def tick_names(places: Sequence[float]) -> list[str]:
    """Return the numbers of an axis, with as many digits as it takes to tell them apart.

    Where that would be too many for an axis, the later ones say how far they are from the first.
    """
    shown = ([short_number(place, digits) for place in places] for digits in range(4, 9))
    beyond = [short_number(places[0]), *(f"+{short_number(place - places[0])}" for place in places[1:])]
    return next((names for names in shown if len({*names}) == len(names)), beyond)


def readable(value: float, digits: int = 4) -> str:
    """Return a number as a sentence says it: so many digits, or whole where that would take a power of ten."""
    return f"{value:,.0f}" if 10**digits <= abs(value) < _HUGE else f"{value:.{digits}g}"


@dataclass(frozen=True)
class Frame:
    """Where numbers lie in a chart."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: int = WIDTH
    height: int = HEIGHT
    whole: bool = False
    """Whether the x-axis shows whole numbers only."""

    def x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        share = (value - self.x_low) / ((self.x_high - self.x_low) or 1.0)
        return round(_LEFT + share * (self.width - _LEFT - _RIGHT), 2)

    def y(self, value: float) -> float:
        """Return the vertical place of a value; it grows downwards."""
        share = (value - self.y_low) / ((self.y_high - self.y_low) or 1.0)
        return round(self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM), 2)

    def chart(
        self, description: str, marks: Iterable[Html], x_label: str, y_label: str, names: Sequence[str] = ()
    ) -> Html:
        """Return the whole chart: grid, marks on it, axes with labels. Screen readers get the description.

        With names, the x-axis has one from each whole number to the next, and no numbers.
        """
        ticks = self._names(names) if names else self._x_ticks()
        labels = self._labels(x_label, y_label)
        return drawing(description, self.width, self.height, self._grid(), *marks, ticks, self._y_ticks(), labels)

    def _grid(self) -> Html:
        lines = [
            element("line", x1=_LEFT, x2=self.width - _RIGHT, y1=self.y(tick), y2=self.y(tick), class_="grid")
            for tick in nice_ticks(self.y_low, self.y_high, 4)
        ]
        base = element(
            "line", x1=_LEFT, x2=self.width - _RIGHT, y1=self.height - _BOTTOM, y2=self.height - _BOTTOM, class_="axis"
        )
        return joined(*lines, base)

    def _x_ticks(self) -> Html:
        places = [tick for tick in nice_ticks(self.x_low, self.x_high) if not self.whole or tick == round(tick)]
        named = zip(tick_names(places), places, strict=True)
        return joined(*(text(name, self.x(tick), self.height - _BOTTOM + 14) for name, tick in named))

    def _y_ticks(self) -> Html:
        places = nice_ticks(self.y_low, self.y_high, 4)
        named = zip(tick_names(places), places, strict=True)
        return joined(*(text(name, _LEFT - 6, self.y(tick) + 3.5, "end") for name, tick in named))

    def _names(self, names: Sequence[str]) -> Html:
        longest = max(48 // len(names), 1)
        below = self.height - _BOTTOM + 14
        return joined(*(text(cut(name, longest), self.x(at + 0.5), below) for at, name in enumerate(names)))

    def _labels(self, x_label: str, y_label: str) -> Html:
        middle = (_TOP + self.height - _BOTTOM) / 2
        return joined(
            text(x_label, (_LEFT + self.width - _RIGHT) / 2, self.height - 5, class_="label"),
            element(
                "text",
                y_label,
                x=11,
                y=middle,
                text_anchor="middle",
                class_="label",
                transform=f"rotate(-90 11 {middle:g})",
            ),
        )


def drawing(description: str, width: float, height: float, *children: Html) -> Html:
    """Return an image that scales with the page; its description stands for it where it cannot be seen."""
    return element(
        "svg",
        element("title", description),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=description,
        xmlns="http://www.w3.org/2000/svg",
    )


def text(content: str, x: float, y: float, anchor: str = "middle", class_: str = "tick") -> Html:
    """Return a text at a place."""
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def cut(name: str, longest: int) -> str:
    """Return a name, shortened when it is longer than that."""
    return name if len(name) <= longest else f"{name[: max(longest - 1, 1)]}…"


def line(points: Sequence[tuple[float, float]], class_: str) -> Html:
    """Return a line through places of a frame."""
    return element("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in points), class_=class_, fill="none")


def dot(x: float, y: float, radius: float, class_: str, told: str = "") -> Html:
    """Return a dot that says what it is when the pointer rests on it."""
    return element("circle", *([element("title", told)] if told else []), cx=x, cy=y, r=radius, class_=class_)


def box(left: float, top: float, right: float, bottom: float, class_: str, told: str = "", **more: float) -> Html:
    """Return a filled rectangle that says what it is when the pointer rests on it."""
    size = {"x": left, "y": top, "width": max(right - left, 0.0), "height": max(bottom - top, 0.0)}
    return element("rect", *([element("title", told)] if told else []), class_=class_, **size, **more)
