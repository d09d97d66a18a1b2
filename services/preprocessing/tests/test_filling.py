from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from headrace_data.key_digests import Digests, key_digests
from headrace_data.manifest import OffsetRange
from headrace_data.spec import Freeze
from headrace_preprocessing.core.filling import Filling, rows_wanted
from headrace_preprocessing.core.pairs import Pairs

WRITTEN_MS = 1_700_000_000_000


def covering(partition: int, start: int, end: int) -> OffsetRange:
    return OffsetRange(partition=partition, start=start, end=end)


def policy(**values: Any) -> Freeze:
    return Freeze.model_validate(values)


def filled(rows: int, last_s: float = 100.0) -> Filling:
    filling = Filling()
    filling.add(rows, {"json": 1}, [covering(0, 10, 20), covering(1, 5, 9)], last_s, WRITTEN_MS)
    return filling


@pytest.mark.parametrize(
    ("when", "rows", "now_s", "due"),
    [
        (policy(after_records=100), 99, 1e9, False),
        (policy(after_records=100), 100, 100.0, True),
        (policy(after_idle="3s"), 1, 102.9, False),
        (policy(after_idle="3s"), 1, 103.0, True),
        (policy(after_idle="3s"), 0, 1e9, False),
        (policy(after_idle="3s", min_records=20), 19, 1e9, False),
        (policy(after_idle="3s", min_records=20), 20, 103.0, True),
        (policy(after_records=30, after_idle="3s", min_records=20), 30, 100.0, True),
        (Freeze(), 10**9, 1e9, False),
    ],
)
def test_a_dataset_is_due_when_it_is_full_or_idle(when: Freeze, rows: int, now_s: float, due: bool) -> None:
    assert filled(rows).due(when, now_s, WRITTEN_MS) is due


@pytest.mark.parametrize(
    ("when", "rows", "age_s", "due"),
    [
        (policy(after_idle="3s"), 1, 3 * 86_400 - 1, False),
        (policy(after_idle="3s"), 1, 3 * 86_400, True),
        (policy(after_records=100), 99, 3 * 86_400, True),
        (policy(after_idle="3s", max_age="1h"), 1, 3_600, True),
        (policy(after_idle="3s", min_records=20), 19, 30 * 86_400, False),
        (policy(after_idle="3s"), 0, 30 * 86_400, False),
        (Freeze(), 100, 30 * 86_400, False),
    ],
)
def test_rows_of_a_stream_without_a_pause_wait_for_no_longer_than_their_topic_keeps_them(
    when: Freeze, rows: int, age_s: int, due: bool
) -> None:
    # Records come all the time: it is never idle.
    assert filled(rows).due(when, 100.0, WRITTEN_MS + 1_000 * age_s) is due


def test_the_oldest_rows_tell_the_age() -> None:
    filling = filled(0)
    assert filling.oldest_ms == 0, "a batch without rows has no age"
    for written_ms in (WRITTEN_MS + 50, WRITTEN_MS, WRITTEN_MS + 90):
        filling.add(1, {}, [], 100.0, written_ms)
    assert filling.oldest_ms == WRITTEN_MS


@pytest.mark.parametrize(
    ("when", "rows"),
    [
        (Freeze(), 0),
        (policy(after_idle="3s"), 0),
        (policy(after_idle="3s", min_records=20), 20),
        (policy(after_records=30, after_idle="3s", min_records=20), 30),
    ],
)
def test_a_policy_waits_for_so_many_rows(when: Freeze, rows: int) -> None:
    assert rows_wanted(when) == rows


def test_a_request_is_due_at_once() -> None:
    filling = filled(0)
    filling.requests.append("r1")
    assert filling.due(Freeze(), 0.0, WRITTEN_MS)


def test_a_freeze_that_failed_waits_for_more_rows() -> None:
    filling = filled(50)
    filling.failed_rows = 50
    assert not filling.due(policy(after_records=10), 0.0, WRITTEN_MS)
    filling.add(1, {}, [covering(0, 20, 21)], 0.0, WRITTEN_MS)
    assert filling.due(policy(after_records=10), 0.0, WRITTEN_MS)


def test_counts_and_ranges_add_up() -> None:
    filling = filled(3)
    filling.add(4, {"json": 2, "duplicates": 1}, [covering(0, 20, 30), covering(-1, 7, 8)], 0.0, WRITTEN_MS)
    assert filling.rows == 7
    assert filling.rejected == Counter(json=3, duplicates=1)
    assert filling.ranges() == (covering(-1, 7, 8), covering(0, 10, 30), covering(1, 5, 9))


@pytest.mark.parametrize(
    ("sources", "anew"),
    [
        ([(0, 10, 20)], False),
        ([(0, 15, 20)], False),
        ([(1, 0, 5)], False),
        ([(0, 0, 5)], True),
        ([(1, 0, 5), (0, 9, 12)], True),
        ([(-1, 0, 1)], False),
    ],
)
def test_a_batch_that_goes_back_is_of_another_topic(sources: list[tuple[int, int, int]], anew: bool) -> None:
    filling = Filling()
    assert not filling.begins_anew([covering(*source) for source in sources])
    filling.add(3, {}, [covering(0, 0, 10), covering(-1, 7, 8)], 0.0, WRITTEN_MS)
    assert filling.begins_anew([covering(*source) for source in sources]) is anew


@pytest.mark.parametrize(
    ("rows", "ready", "now_s", "due"),
    [(100, 29, 1e9, True), (100, 30, 100.0, True), (100, 29, 102.0, False), (0, 30, 100.0, True), (100, 0, 1e5, False)],
)
def test_rows_that_wait_for_labels_make_no_dataset_due(rows: int, ready: int, now_s: float, due: bool) -> None:
    when, filling = policy(after_records=30, after_idle="3s"), filled(rows)
    filling.ready = ready
    assert filling.due(when, now_s, WRITTEN_MS) == due
    assert (filling.rest_s(when, now_s, WRITTEN_MS) == 0.0) == due


def test_rows_without_a_label_go_to_the_store_in_time() -> None:
    when, filling = policy(after_records=30, max_age="1h"), filled(100)
    filling.ready = 0
    assert filling.rest_s(when, 100.0, WRITTEN_MS) == 3600.0
    assert not filling.due(when, 100.0, WRITTEN_MS + 3_599_000)
    assert filling.due(when, 100.0, WRITTEN_MS + 3_600_000)
    filling.requests.append("one")
    assert filling.due(when, 100.0, WRITTEN_MS)


def test_rows_and_labels_are_pairs_whichever_comes_first() -> None:
    def keys(*of: int) -> Digests:
        return key_digests(pa.array(of, pa.int64()))

    pairs = Pairs([keys(1, 2)], [keys(2, 9)])
    assert (pairs.ready, pairs.waiting) == (1, 1)
    pairs.add_rows(keys(3, 3, 9))
    pairs.add_labels(keys(3, 4, 3))
    assert (pairs.ready, pairs.waiting) == (4, 1)
    pairs.add_rows(keys(4))
    pairs.add_labels(keys(1))
    assert (pairs.ready, pairs.waiting) == (6, 0)
