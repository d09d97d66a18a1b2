from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from headrace_inference.core.releases import CachePolicy, Failing, Graph, Release
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.core.signature import Signature
from headrace_runtime.errors import HeadraceError, InvalidInput, NotFound, Unavailable
from hypothesis import given
from hypothesis import strategies as st

MakeRelease = Callable[..., Release]


class NoModel:
    signature = Signature([], [], 1)

    def run(self, arrays: Any, outputs: Any) -> list[Any]:
        raise AssertionError((arrays, outputs))

    def sample(self) -> dict[str, Any]:
        return {}

    def tokens(self, arrays: Any) -> int:
        return 0


def loaded(release: Release, first_row_s: float = 0.0) -> LoadedVersion:
    return LoadedVersion(release, NoModel(), Speed(first_row_s, 0.0), b"")


@pytest.fixture
def versions(make_release: MakeRelease) -> dict[str, LoadedVersion]:
    return {
        "champion": loaded(make_release(ordinal=12, version_id="sha256:" + "abcd" + "0" * 60)),
        "candidate": loaded(make_release(alias="candidate", ordinal=13, version_id="sha256:" + "abce" + "0" * 60)),
    }


@pytest.fixture
def shelf(versions: dict[str, LoadedVersion]) -> Shelf:
    shelf = Shelf()
    for version in versions.values():
        shelf.put(version)
    shelf.announce(["digits", "late"], complete=True)
    return shelf


@pytest.mark.parametrize(
    ("version", "alias"),
    [
        ("", "champion"),
        ("champion", "champion"),
        ("candidate", "candidate"),
        ("12", "champion"),
        ("13", "candidate"),
        ("abcd", "champion"),
        ("sha256:abce", "candidate"),
        ("abce" + "0" * 60, "candidate"),
    ],
)
def test_a_version_has_many_names(shelf: Shelf, versions: dict[str, LoadedVersion], version: str, alias: str) -> None:
    assert shelf.resolve("digits", version) is versions[alias]


@pytest.mark.parametrize(
    ("model", "version", "error", "message"),
    [
        ("nope", "", NotFound, "model 'nope' is not released; released models: ['digits', 'late']"),
        ("late", "", Unavailable, "model 'late' is released but not loaded yet"),
        ("digits", "1", NotFound, "model 'digits' has no version '1' here; served: 12 (champion), 13 (candidate)"),
        (
            "digits",
            "stable",
            NotFound,
            "model 'digits' has no version 'stable' here; served: 12 (champion), 13 (candidate)",
        ),
        ("digits", "abc", NotFound, "model 'digits' has no version 'abc' here; served: 12 (champion), 13 (candidate)"),
        (
            "digits",
            "abcf",
            NotFound,
            "model 'digits' has no version 'abcf' here; served: 12 (champion), 13 (candidate)",
        ),
        (
            "digits",
            "-1",
            InvalidInput,
            "model 'digits': expected an ordinal, a digest or an alias as version, got '-1'",
        ),
    ],
)
def test_a_version_that_is_not_here(
    shelf: Shelf, model: str, version: str, error: type[HeadraceError], message: str
) -> None:
    with pytest.raises(error) as caught:
        shelf.resolve(model, version)
    assert str(caught.value) == message


def test_a_digest_must_name_one_version(make_release: MakeRelease) -> None:
    shelf = Shelf()
    shelf.put(loaded(make_release(version_id="sha256:" + "abcd" + "0" * 60)))
    shelf.put(loaded(make_release(alias="candidate", version_id="sha256:" + "abcd" + "1" * 60)))
    with pytest.raises(InvalidInput, match="version 'abcd' begins more than one digest"):
        shelf.resolve("digits", "abcd")
    assert shelf.resolve("digits", "abcd1").release.alias == "candidate"


def test_one_version_under_two_aliases_is_one_version(make_release: MakeRelease) -> None:
    shelf = Shelf()
    for alias in ("champion", "candidate"):
        shelf.put(loaded(make_release(alias=alias, version_id="sha256:" + "abcd" + "0" * 60)))
    assert shelf.resolve("digits", "abcd").release.version_id.startswith("sha256:abcd")


def test_without_a_champion_a_version_must_be_named(make_release: MakeRelease) -> None:
    shelf = Shelf()
    shelf.put(loaded(make_release(alias="candidate", ordinal=3)))
    assert shelf.resolve("digits", "3").release.alias == "candidate"
    with pytest.raises(NotFound, match="has no version 'champion' here"):
        shelf.resolve("digits", "")


def test_nothing_is_unknown_before_all_releases_were_read() -> None:
    shelf = Shelf()
    with pytest.raises(Unavailable, match="the releases are still being read"):
        shelf.resolve("digits", "")
    assert not shelf.knows("digits")


def test_a_model_is_known_while_it_loads_and_gone_when_it_is_removed(shelf: Shelf) -> None:
    assert (shelf.knows("digits"), shelf.knows("late")) == (True, False)
    with pytest.raises(NotFound):
        shelf.knows("nope")
    assert shelf.remove(("digits", "candidate")) is not None
    assert shelf.knows("digits")
    assert shelf.remove(("digits", "champion")) is not None
    assert shelf.remove(("digits", "champion")) is None
    assert not shelf.knows("digits")


def test_a_swap_changes_one_alias(shelf: Shelf, versions: dict[str, LoadedVersion], make_release: MakeRelease) -> None:
    newer = loaded(make_release(epoch=2, ordinal=14))
    shelf.put(newer)
    assert shelf.resolve("digits", "") is newer
    assert shelf.resolve("digits", "candidate") is versions["candidate"]


def numbered(make_release: MakeRelease, ordinal: int, **fields: Any) -> LoadedVersion:
    graph = Graph("", f"sha256:{ordinal:064x}", 1)
    return loaded(make_release(ordinal=ordinal, version_id=f"sha256:{ordinal:064x}", graph=graph, **fields))


def test_a_replaced_version_answers_who_names_it_until_newer_ones_take_its_place(make_release: MakeRelease) -> None:
    shelf = Shelf(resident=2)
    first, second, third = (numbered(make_release, ordinal) for ordinal in (1, 2, 3))
    shelf.put(first)
    shelf.put(second)
    assert shelf.resolve("digits", "") is second
    assert shelf.resolve("digits", "1") is first
    shelf.put(third)
    assert shelf.resolve("digits", "2") is second
    with pytest.raises(NotFound, match=r"served: 2 \(replaced\), 3 \(champion\)"):
        shelf.resolve("digits", "1")


def test_a_version_that_comes_back_takes_no_second_place(make_release: MakeRelease) -> None:
    shelf = Shelf(resident=2)
    first, second = numbered(make_release, 1), numbered(make_release, 2)
    for version in (first, second, first, second, first):
        shelf.put(version)
    assert shelf.models["digits"].all == (first, second)


def test_versions_under_an_alias_stay_however_many_there_are(make_release: MakeRelease) -> None:
    shelf = Shelf(resident=1)
    champion, candidate = numbered(make_release, 1), numbered(make_release, 2, alias="candidate")
    shelf.put(champion)
    shelf.put(candidate)
    assert shelf.models["digits"].all == (champion, candidate)
    newer = numbered(make_release, 3)
    shelf.put(newer)
    assert shelf.models["digits"].all == (newer, candidate)


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 6)), min_size=1, max_size=30))
def test_what_stays_is_what_was_served_last(resident: int, served: list[tuple[str, int]]) -> None:
    shelf, last = Shelf(resident), dict[str, int]()
    for alias, ordinal in served:
        shelf.put(numbered(release, ordinal, alias=alias))
        last[alias] = ordinal
    ordinals = [version.release.ordinal for version in shelf.models["m"].all]
    named, replaced = ordinals[: len(last)], ordinals[len(last) :]
    assert sorted(named) == sorted(last.values())
    assert len(set(replaced)) == len(replaced)
    assert not set(replaced) & set(named)
    assert len(set(ordinals)) <= max(resident, len(set(named)))


def release(**fields: Any) -> Release:
    return Release(model="m", epoch=1, variant="fp32", dataset_id="", run_id="", cache=CachePolicy.OFF, **fields)


def test_a_release_finds_its_graph_in_memory(make_release: MakeRelease) -> None:
    shelf = Shelf(resident=2)
    first, second = numbered(make_release, 1), numbered(make_release, 2)
    assert shelf.holding(first.release) is None
    shelf.put(first)
    shelf.put(second)
    assert shelf.holding(first.release) is first
    assert shelf.holding(numbered(make_release, 3).release) is None
    assert shelf.holding(numbered(make_release, 1, model="other").release) is None


@pytest.mark.parametrize(
    ("policy", "first_row_s", "cached"),
    [
        (CachePolicy.REDIS, 0.00001, True),
        (CachePolicy.OFF, 1.0, False),
        (CachePolicy.AUTO, 0.0002, False),
        (CachePolicy.AUTO, 0.00021, True),
    ],
)
def test_automatic_caching_needs_a_model_slower_than_the_cache(
    make_release: MakeRelease, policy: CachePolicy, first_row_s: float, cached: bool
) -> None:
    assert loaded(make_release(cache=policy), first_row_s).cached is cached


def test_a_batch_takes_longer_by_each_row() -> None:
    assert Speed(0.001, 0.0001).of(1) == 0.001
    assert Speed(0.001, 0.0001).of(11) == pytest.approx(0.002)


def test_a_release_that_does_not_load_hides_no_version_that_is_loaded(
    shelf: Shelf, versions: dict[str, LoadedVersion], make_release: MakeRelease
) -> None:
    failing = [Failing(make_release(ordinal=ordinal), "its graph is gone") for ordinal in (12, 14)]
    shelf.announce(["digits"], complete=True, failing=failing)
    assert shelf.resolve("digits", "12") is versions["champion"]
    with pytest.raises(Unavailable, match="version '14' is released but does not load: its graph is gone"):
        shelf.resolve("digits", "14")
