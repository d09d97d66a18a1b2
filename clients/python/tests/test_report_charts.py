"""What reports count and draw: numbers in, SVG out."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from headrace_client.report import measures
from headrace_client.report.charts import (
    frontier_chart,
    grouped_bars,
    histogram_chart,
    lines_chart,
    matrix_chart,
    reliability_chart,
    scatter_chart,
)
from headrace_client.report.markup import Html, element, joined
from headrace_client.report.svg import nice_ticks, readable, short_number, tick_names
from headrace_data.tasks.classification import Predictions
from headrace_data.tasks.classification import calibration_error as platforms_error
from hypothesis import example, given, settings
from hypothesis import strategies as st

FINITE = st.floats(-1e12, 1e12)


def places(chart: Html) -> list[float]:
    """Return every number that says where something lies; the chart is well formed, or this raises."""
    root = ET.fromstring(str(chart))  # noqa: S314
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    found = []
    for one in root.iter():
        for name, most in (("x", width), ("cx", width), ("x1", width), ("y", height), ("cy", height), ("y2", height)):
            if name in one.attrib:
                assert -1 <= float(one.attrib[name]) <= most + 1, (one.tag, one.attrib)
                found.append(float(one.attrib[name]))
    return found


def test_markup_escapes_what_is_no_markup() -> None:
    assert element("p", "<b>", element("i", '"'), class_="a&b") == '<p class="a&amp;b">&lt;b&gt;<i>&quot;</i></p>'
    assert element("rect", x=0.5, told_as="x", y=None) == '<rect x="0.5" told-as="x"/>'
    assert joined("a", 1, Html("<b>")) == "a1<b>"


@example(0.0, 5e-324)
@given(FINITE, FINITE)
def test_ticks_are_round_few_and_inside(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    ticks = nice_ticks(low, high)
    assert 1 <= len(ticks) <= 7
    if high > low and high - low > 1e-9 * max(abs(low), abs(high)):
        assert ticks == sorted(ticks)
        assert all(low - (high - low) * 1e-6 <= tick <= high + (high - low) * 1e-6 for tick in ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.25, "0.25"), (-3.0, "\N{MINUS SIGN}3"), (12_500, "12.5k"), (3.2e6, "3.2M"), (9_999, "9999")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short_number(value) == text


@settings(deadline=None)
@given(st.lists(FINITE | st.just(math.nan), max_size=40))
def test_a_histogram_counts_every_finite_value_and_can_be_drawn(values: list[float]) -> None:
    counted = measures.histogram(np.array(values, dtype=np.float64))
    assert sum(counted.counts) == sum(1 for value in values if math.isfinite(value))
    assert len(counted.edges) == len(counted.counts) + 1
    places(histogram_chart(counted, "a histogram", "x", small=True))


def test_whole_numbers_have_a_bar_each() -> None:
    counted = measures.histogram(np.array([1, 1, 2, 5]))
    assert counted.edges == (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)
    assert counted.counts == (2, 1, 0, 0, 1)


def test_missing_is_nan_or_an_empty_text() -> None:
    assert measures.missing(np.array([1.0, np.nan])) == 1
    assert measures.missing(np.array([[1.0, np.nan], [1.0, 2.0]])) == 1
    assert measures.missing(np.array(["a", "", ""], dtype=object)) == 2
    assert measures.missing(np.array([0, 1])) == 0


def test_a_confusion_matrix_has_truth_in_rows() -> None:
    pairs = {("a", "a"): 1, ("a", "b"): 2, ("b", "b"): 3, ("?", "a"): 4}
    assert measures.confusion(pairs, ["a", "b"]) == [[1, 2], [0, 3]]


def test_the_calibration_error_is_the_platforms_own() -> None:
    generator = np.random.default_rng(3)
    raw = generator.random((400, 4)) ** 3
    probabilities = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)
    truth = generator.integers(0, 4, 400)
    labels = probabilities.argmax(axis=1)
    bins = measures.reliability(probabilities.max(axis=1), labels == truth)
    assert sum(one.rows for one in bins) == 400
    wanted = platforms_error(Predictions(probabilities, labels, [0, 1, 2, 3]), truth)
    assert measures.calibration_error(bins) == pytest.approx(wanted)
    assert places(reliability_chart(bins, "reliability"))


def test_a_variant_that_is_not_among_the_best_is_pale() -> None:
    variants = {"fp32": (0.04, 0.9, 9e3), "int8": (0.05, 0.9, 9e3)}
    for best, pale in ((["fp32"], 1), (["fp32", "int8"], 0)):
        chart = frontier_chart(variants, "variants", "ms", "accuracy", best=best)
        assert "polyline" not in chart, "there is no line to speak of"
        assert chart.count("outdone") == pale


def test_an_axis_on_both_sides_of_zero_has_ticks_on_both() -> None:
    assert nice_ticks(-473, 473, 4) == [-400, -200, 0, 200, 400]
    assert nice_ticks(0, 1, 4) == [0, 0.5, 1]


@given(st.floats(1e-6, 1e12), st.sampled_from([4, 5]))
def test_an_axis_always_has_two_ticks_at_least(widest: float, most: int) -> None:
    assert 2 <= len(nice_ticks(-widest, widest, most)) <= most + 1
    assert 2 <= len(nice_ticks(0, widest, most)) <= most + 1


@settings(deadline=None)
@given(st.lists(st.tuples(FINITE, FINITE), max_size=30), st.sampled_from(["diagonal", "zero"]))
def test_points_stay_inside_of_their_chart(points: list[tuple[float, float]], reference: str) -> None:
    places(scatter_chart(points, "points", "x", "y", reference=reference))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "series", [{}, {"a": []}, {"a": [(1, 0.5)]}, {"a": [(1, math.inf), (2, 1.0)], "b": [(1, 1.0), (2, 1.0)]}]
)
def test_lines_of_any_length_can_be_drawn(series: dict[str, list[tuple[float, float]]]) -> None:
    assert places(lines_chart(series, "lines", "epoch", "loss", marked_x=1.0))


def test_a_matrix_of_one_or_twenty_classes_can_be_drawn() -> None:
    for count in (1, 2, 20):
        matrix = [[row * column for column in range(count)] for row in range(count)]
        assert places(matrix_chart(matrix, [f"class {number}" for number in range(count)], "matrix"))


def test_bars_and_bubbles_say_what_they_are() -> None:
    bars = grouped_bars({"a long name of a class": [50.0, 25.0], "b": [50.0, 75.0]}, "bars", "%")
    assert "<title>b: 75</title>" in bars
    assert places(bars)
    variants = {"fp32": (0.04, 0.9, 9e3), "int8": (0.02, 0.9, 3e3)}
    bubbles = frontier_chart(variants, "variants", "ms", "accuracy", best=["int8"])
    assert "<title>int8</title>" in bubbles
    assert places(bubbles)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "0"),
        (0.97917, "0.9792"),
        (9999.4, "9999"),
        (203803.88, "203,804"),
        (-1.5e6, "-1,500,000"),
        (3e12, "3e+12"),
    ],
)
def test_numbers_of_any_size_can_be_read(value: float, told: str) -> None:
    assert readable(value) == told


def test_ticks_that_lie_close_together_have_names_of_their_own() -> None:
    assert tick_names([310_760.0, 310_780.0, 310_800.0]) == ["310.76k", "310.78k", "310.8k"]
    assert tick_names([0.0, 5e5, 1e6]) == ["0", "500k", "1M"]


@pytest.mark.parametrize("low", [2**53, -(2**60), 2**62])
def test_ticks_of_numbers_beyond_what_floats_tell_apart_differ(low: int) -> None:
    bars = measures.histogram(np.array([low, low + 4096, low + 8192], dtype=np.int64))
    assert sum(bars.counts) == 3
    ticks = re.findall(r'text-anchor="middle" class="tick">([^<]+)<', histogram_chart(bars, "ids", "value"))
    assert len(set(ticks)) == len(ticks) > 1
    assert not any(letter in tick for tick in ticks for letter in "G")
    assert measures.histogram(np.array([low, low])).counts[0] == 2


def test_bins_of_whole_numbers_have_whole_ticks() -> None:
    chart = histogram_chart(measures.histogram(np.array([0, 1, 1])), "flags", "value")
    assert re.findall(r'text-anchor="middle" class="tick">([^<]+)<', chart) == ["0", "1"]
