from __future__ import annotations

from collections.abc import Callable

from headrace_inference.core.releases import LAST_RETRY_S, CachePolicy, Fault, Graph, Release, ReleaseBook
from hypothesis import given
from hypothesis import strategies as st

MakeRelease = Callable[..., Release]


def test_a_release_is_due_at_once_and_then_loaded(make_release: MakeRelease) -> None:
    book, release = ReleaseBook(), make_release()
    assert book.settled()
    assert book.announce(release, now_s=5.0)
    assert (book.due(5.0), book.next_due_s(), book.settled()) == (release, 5.0, False)
    book.loaded(release)
    assert (book.due(99.0), book.next_due_s(), book.settled()) == (None, None, True)


def test_an_older_or_repeated_epoch_changes_nothing(make_release: MakeRelease) -> None:
    book = ReleaseBook()
    assert book.announce(make_release(epoch=2, ordinal=2), 0.0)
    assert not book.announce(make_release(epoch=1, ordinal=1), 1.0)
    assert not book.announce(make_release(epoch=2, ordinal=3), 1.0)
    assert book.due(9.0) == make_release(epoch=2, ordinal=2)


def test_aliases_and_models_have_their_own_epochs(make_release: MakeRelease) -> None:
    book = ReleaseBook()
    releases = [make_release(epoch=9), make_release(alias="candidate"), make_release(model="other")]
    assert [book.announce(release, 0.0) for release in releases] == [True, True, True]
    assert book.models() == {"digits", "other"}


def test_a_failure_is_tried_again_ever_more_rarely(make_release: MakeRelease) -> None:
    book, release = ReleaseBook(), make_release()
    book.announce(release, 0.0)
    waits = []
    now_s = 0.0
    for _ in range(8):
        waits.append(book.failed(release, now_s, "reason", Fault.AROUND))
        assert book.due(now_s + waits[-1] - 0.001) is None
        now_s += waits[-1]
        assert book.due(now_s) == release
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LAST_RETRY_S, LAST_RETRY_S]
    # A power of two is no float any more after a thousand failures, which take a night.
    assert {book.failed(release, now_s, "reason", Fault.AROUND) for _ in range(1_100)} == {LAST_RETRY_S}


def test_one_that_fails_does_not_hold_up_the_next(make_release: MakeRelease) -> None:
    book, bad, good = ReleaseBook(), make_release(), make_release(model="other")
    book.announce(bad, 0.0)
    book.failed(bad, 0.0, "reason", Fault.AROUND)
    book.announce(good, 0.5)
    assert book.due(0.5) == good
    book.loaded(good)
    assert not book.settled()


def test_a_newer_release_takes_the_place_of_one_being_loaded(make_release: MakeRelease) -> None:
    book, older, newer = ReleaseBook(), make_release(epoch=1), make_release(epoch=2)
    book.announce(older, 0.0)
    book.announce(newer, 1.0)
    assert not book.wants(older)
    book.loaded(older)
    book.failed(older, 1.0, "reason", Fault.AROUND)
    assert book.due(1.0) == newer


def test_a_withdrawn_release_is_not_wanted_and_cannot_come_back(make_release: MakeRelease) -> None:
    book, release = ReleaseBook(), make_release(epoch=2)
    book.announce(release, 0.0)
    book.withdraw(release.place)
    assert (book.due(9.0), book.settled(), book.models()) == (None, True, frozenset())
    assert not book.announce(make_release(epoch=1), 0.0)
    assert book.announce(make_release(epoch=3), 0.0)


@given(st.data(), st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 5)), max_size=20))
def test_the_newest_release_of_each_place_is_wanted(data: st.DataObject, seen: list[tuple[str, int]]) -> None:
    book = ReleaseBook()
    releases = [_release(alias, epoch) for alias, epoch in seen]
    for release in releases:
        book.announce(release, 0.0)
        if data.draw(st.booleans()):
            book.loaded(release)
    for alias in {alias for alias, _ in seen}:
        newest = max(epoch for name, epoch in seen if name == alias)
        assert book.wants(_release(alias, newest))


def _release(alias: str, epoch: int) -> Release:
    return Release("m", alias, epoch, "sha256:v", 1, "fp32", Graph("", "", 0), "", "", CachePolicy.OFF)
