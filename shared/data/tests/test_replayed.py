"""Which rows of the past versions are held against each other on."""

from __future__ import annotations

import numpy as np
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetUnusable
from headrace_data.held import Held, Suspicion
from headrace_data.history import History
from headrace_data.replayed import Replayed
from headrace_data.windows import Windows

from .conftest import MemoryStore
from .many_days import DAY, days, history_of


def test_rows_that_nobody_learned_from_count_whole_and_others_by_their_test_split() -> None:
    store, pipeline = MemoryStore(), days()
    history = history_of(pipeline, store, 4)
    learned = [Windows(pipeline, store).dataset(history.before(place))[0] for place in (2, 3)]
    tested = len(DatasetReader(learned[1], store).columns("test")["y"])

    replayed = Replayed(history, learned, pipeline, 2 * 86_400, store)
    rows = list(replayed)
    # Two days back from the newest row, which is 24 minutes before the end of its day.
    assert replayed.segments == 3
    assert replayed.unseen_rows == DAY
    assert DAY + tested <= sum(len(truth) for _, truth in rows) <= DAY + tested + 1
    for columns, truth in rows:
        assert set(columns) == {"x", "kind"}
        assert np.isin(truth, (0, 1)).all()
    assert [len(truth) for _, truth in replayed] == [len(truth) for _, truth in rows], "they may be read again"

    day = Replayed(history, learned, pipeline, 3600, store)
    assert sum(len(truth) for _, truth in day) == day.unseen_rows == 3  # 0, 24 and 48 minutes back


def test_where_nobody_can_tell_what_was_learned_from_the_test_split_counts() -> None:
    store, pipeline = MemoryStore(), days()
    history = history_of(pipeline, store, 2)
    manifest, _ = Windows(pipeline, store).dataset(history)
    alone = manifest.model_copy(update={"slices": ()})
    replayed = Replayed(history, [alone], pipeline, 86_400 * 30, store)
    assert 0 < sum(len(truth) for _, truth in replayed) < DAY
    assert replayed.unseen_rows == 0


def test_segments_that_are_held_or_were_dropped_are_passed_over() -> None:
    store, pipeline = MemoryStore(), days()
    history = history_of(pipeline, store, 3)
    manifest, _ = Windows(pipeline, store).dataset(history.before(1))
    suspicion = Suspicion(field="x", figure="scale", before=1.0, after=1_000.0)
    newest = history.entries[-1].segment_id
    for dropped in (False, True):
        suspected = history.with_held(newest, Held(suspicions=(suspicion,), dropped=dropped))
        replayed = Replayed(suspected, [manifest], pipeline, 86_400 * 30, store)
        sound = Replayed(history.before(2), [manifest], pipeline, 86_400 * 30, store)
        assert (replayed.until_us, replayed.segments) == (sound.until_us, 2)
        assert [len(truth) for _, truth in replayed] == [len(truth) for _, truth in sound]


def test_a_history_without_times_is_refused() -> None:
    store, pipeline = MemoryStore(), days()
    manifest, _ = Windows(pipeline, store).dataset(history_of(pipeline, store, 1))
    with pytest.raises(DatasetUnusable, match="expected rows with an event time"):
        Replayed(History(pipeline="days"), [manifest], pipeline, 60, store)
