"""What is kept between datasets: the next one reads what is new, and comes out as if everything had been read."""

from __future__ import annotations

from typing import Any

import pytest
from headrace_data.history import History
from headrace_data.recall import Recall
from headrace_data.windows import Windows

from .conftest import MemoryStore
from .many_days import days, history_of

DAYS = 7
SCALES: list[dict[str, str]] = [{}, {"scale": "robust"}]


class Counting(MemoryStore):
    """A store that counts what is read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = 0

    def get(self, blob: Any) -> bytes:
        self.gets += 1
        return super().get(blob)


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("window", ["all", "{last: 3d}", "{rows: 100}"])
def test_a_dataset_is_the_same_whatever_is_kept(store: Counting, window: str, scale: dict[str, str]) -> None:
    pipeline, recall, small = days(window, **scale), Recall(), Recall(most_bytes=2_000)
    whole = history_of(pipeline, store, DAYS)
    for count in range(1, DAYS + 1):
        history = whole.model_copy(update={"entries": whole.entries[:count]})
        expected, _ = Windows(pipeline, store).dataset(history)
        for kept in (recall, small):
            for _ in range(2):
                found, after = Windows(pipeline, store, recall=kept).dataset(history)
                assert found.to_json() == expected.to_json()
                assert after.entries == history.entries


@pytest.mark.parametrize("scale", SCALES)
def test_only_what_is_new_is_read(store: Counting, scale: dict[str, str]) -> None:
    pipeline, recall = days("all", **scale), Recall()
    whole = history_of(pipeline, store, DAYS)
    reads = []
    for count in range(1, DAYS + 1):
        store.gets = 0
        Windows(pipeline, store, recall=recall).dataset(
            whole.model_copy(update={"entries": whole.entries[:count]}),
        )
        reads.append(store.gets)
    # The manifest and the sketch of the new segment.
    assert reads == [2] * DAYS


def test_another_segment_in_a_place_is_not_taken_for_the_one_before(store: Counting) -> None:
    pipeline, recall = days("all"), Recall()
    history = history_of(pipeline, store, 4)
    Windows(pipeline, store, recall=recall).dataset(history)
    changed = History(pipeline=pipeline.name, entries=(*history.entries[1:], history.entries[0]))
    found, _ = Windows(pipeline, store, recall=recall).dataset(changed)
    assert found.to_json() == Windows(pipeline, store).dataset(changed)[0].to_json()


def test_what_is_kept_is_bounded(store: Counting) -> None:
    pipeline = days("{last: 30d}")
    history = history_of(pipeline, store, DAYS)
    recall = Recall(most_bytes=sum(entry.manifest.size_bytes for entry in history.entries[:3]))
    for _ in range(2):
        store.gets = 0
        Windows(pipeline, store, recall=recall).dataset(history)
    assert 2 * DAYS - 3 <= store.gets < 2 * DAYS
