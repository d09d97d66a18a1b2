"""The search for bad ones among good ones, and the note that outlives a process."""

import math
from collections.abc import Iterator, Sequence

from headrace_runtime.poison.bisection import CONVICTING_DEATHS, Mark, Search
from hypothesis import given
from hypothesis import strategies as st


def searched(units: Sequence[int], bad: set[int], chunk: int) -> tuple[list[int], list[int], int]:
    """Return what passed, what was set aside, and how many deaths that took; at most `chunk` units are seen at once."""
    passed: list[int] = []
    aside: list[int] = []
    search, deaths, at = Search(), 0, 0
    while at < len(units):
        piece = search.piece(units[at : at + chunk])
        if not bad & set(piece):
            passed += piece
            at += len(piece)
            search = search.passed(piece)
            continue
        deaths += 1
        search = search.died(piece)
        if search.convicts:
            assert len(piece) == 1
            aside += piece
            at += 1
            search = Search()
    return passed, aside, deaths


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], set[int], int]:
    units = sorted(draw(st.sets(st.integers(0, 400), min_size=1, max_size=120)))
    return units, draw(st.sets(st.sampled_from(units), max_size=6)), draw(st.integers(1, 64))


@given(cases())
def test_exactly_the_bad_ones_are_set_aside_and_all_others_pass_in_order(case: tuple[list[int], set[int], int]) -> None:
    units, bad, chunk = case
    passed, aside, deaths = searched(units, bad, chunk)
    assert aside == sorted(bad)
    assert passed == [unit for unit in units if unit not in bad]
    assert deaths <= len(bad) * (math.ceil(math.log2(chunk)) + 1 + CONVICTING_DEATHS)


@given(cases(), st.data())
def test_what_dies_in_company_only_is_never_set_aside(
    case: tuple[list[int], set[int], int], data: st.DataObject
) -> None:
    units, _, _ = case
    pair = data.draw(st.sets(st.sampled_from(units), min_size=2, max_size=2) if len(units) > 1 else st.just({-1, -2}))
    passed: list[int] = []
    search, rounds = Search(), 0
    while len(passed) < len(units):
        piece = search.piece(units[len(passed) :])
        died = pair <= set(piece)
        search = search.died(piece) if died else search.passed(piece)
        assert not search.convicts
        passed += [] if died else piece
        rounds += 1
    assert passed == units
    assert rounds <= 3 * math.ceil(math.log2(len(units) + 1)) + 3


@given(st.lists(st.booleans(), max_size=60))
def test_a_unit_is_convicted_by_deaths_in_a_row_of_itself_alone(deaths: list[bool]) -> None:
    def steps() -> Iterator[Search]:
        search, units = Search(), list(range(100))
        for died in deaths:
            piece = search.piece(units)
            if died:
                search = search.died(piece)
            else:
                search, units = search.passed(piece), units[len(piece) :]
            yield search
            if search.convicts or not units:
                return

    ends = list(steps())
    if ends and ends[-1].convicts:
        assert deaths[len(ends) - CONVICTING_DEATHS : len(ends)] == [True] * CONVICTING_DEATHS


@given(st.integers(0, 10), st.integers(0, 10_000), st.integers(0, 100))
def test_a_mark_is_read_as_it_was_written(begun: int, until: int, in_a_row: int) -> None:
    mark = Mark(begun, until, in_a_row)
    assert Mark.read(mark.text()) == mark
    assert len(mark.text()) < 4096, "the broker takes no longer notes"


@given(st.one_of(st.text(), st.sampled_from(['{"begun":1}', "[]", "null", '{"begun":"x","until":0,"in_a_row":0}'])))
def test_notes_of_others_are_no_marks(note: str) -> None:
    assert not Mark.read(note).is_suspicious(0)
