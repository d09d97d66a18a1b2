from __future__ import annotations

import numpy as np
import pytest
from headrace_inference.core.classification import top_classes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


def test_the_highest_scores_of_each_row_come_first() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32)
    found = top_classes(scores, 2, batched=True)
    assert found.tolist() == [["0.700000:1", "0.200000:2"], ["0.500000:0", "0.250000:1"]]


def test_a_label_follows_the_index_that_has_one() -> None:
    found = top_classes(np.array([[0.25, 0.5, 0.125]]), 3, batched=True, labels=("Adelie", "Gentoo: old"))
    assert found.tolist() == [["0.500000:1:Gentoo: old", "0.250000:0:Adelie", "0.125000:2"]]


def test_there_are_no_more_classes_than_scores() -> None:
    assert top_classes(np.array([[3, 9]], np.uint8), 5, batched=True).tolist() == [["9:1", "3:0"]]


def test_a_model_without_rows_has_one_list_of_classes() -> None:
    assert top_classes(np.array([[1.0, 2.0], [4.0, 3.0]]), 3, batched=False).tolist() == [
        "4.000000:2",
        "3.000000:3",
        "2.000000:1",
    ]


def test_a_row_of_one_score_is_its_own_class() -> None:
    assert top_classes(np.array([7, 8], np.int64), 1, batched=True).tolist() == [["7:0"], ["8:0"]]


@given(arrays(np.int32, st.tuples(st.integers(1, 4), st.integers(1, 6))), st.integers(1, 8))
def test_classes_are_the_sorted_scores(scores: np.ndarray, count: int) -> None:
    found = top_classes(scores, count, batched=True)
    for row, strings in zip(scores, found, strict=True):
        pairs = [tuple(int(part) for part in text.split(":")) for text in strings]
        assert [score for score, _ in pairs] == sorted(row.tolist(), reverse=True)[:count]
        assert all(row[place] == score for score, place in pairs)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_floats_are_written_with_six_decimals(dtype: type) -> None:
    assert top_classes(np.array([[0.5]], dtype), 1, batched=True).tolist() == [["0.500000:0"]]
