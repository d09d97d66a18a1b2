"""A version beside always the same answer, as `wait` and `get versions` show it."""

from __future__ import annotations

import re

import pytest
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client.doubts import doubts
from headrace_data.tasks import TASKS, task_of
from headrace_data.tasks.classification import ACCURACY

RELEASED = messages.VERSION_STATE_RELEASED


@pytest.mark.parametrize(
    ("metrics", "poor"),
    [
        ({"accuracy": 0.5, "baseline_accuracy/a/b": 0.4}, ""),
        ({"accuracy": 0.2, "baseline_accuracy/a": 0.35}, "no better than always answering 'a': accuracy 0.2000, and"),
        ({"accuracy": 0.35, "baseline_accuracy/a": 0.35}, "no better than always answering 'a'"),
        ({"rmse": 3.0, "baseline_rmse": 4.0}, ""),
        ({"rmse": 4.5, "baseline_rmse": 4.0}, "no better than always answering the mean: rmse 4.5, and 4 so"),
        ({"accuracy": 0.1}, ""),
        ({"rmse": 9.0}, ""),
    ],
)
def test_what_is_no_better_is_said(metrics, poor) -> None:
    task = task_of("", metrics)
    told = "".join(doubts(task, task.headline, metrics))
    assert told.startswith(poor)
    assert bool(told) == bool(poor)


def test_a_class_of_any_name_is_the_answer() -> None:
    found = TASKS["classification"].baseline(
        {"accuracy": 0.5, "accuracy/a/b": 1.0, "baseline_accuracy/a/b": 0.4}, ACCURACY
    )
    assert found is not None
    assert (found.answer, found.value) == ("a/b", 0.4)


@pytest.mark.parametrize(("share", "poor"), [(0.1, False), (0.9811, True)])
def test_wait_and_get_show_it_beside_the_accuracy(headrace, registry, canned, share, poor) -> None:
    state = canned.released_state()
    state.version.trained.metrics["baseline_accuracy/7"] = share
    registry.states, registry.versions = [state], [state.version, canned.version(RELEASED)]
    waited, listed = headrace("wait", "digits"), headrace("get", "versions", "digits")
    assert f"test accuracy 0.9811 ({share:.4f} by always answering '7')" in waited.stderr
    assert "baseline" in listed.stdout
    assert f" {share:.4f} " in listed.stdout
    assert all(len(line) <= 80 for line in listed.stdout.splitlines() if "better" not in line)
    assert re.search(r"^digits  .* released\s*$", listed.stdout, re.MULTILINE), "the last column is not cut"
    for shown in (waited.stdout, listed.stdout):
        assert ("version 1 of digits is no better than always answering '7'" in shown) == poor


def test_versions_from_before_it_was_measured_have_no_column(headrace, registry, canned) -> None:
    registry.versions = [canned.version(RELEASED)]
    assert "baseline" not in headrace("get", "versions", "digits").stdout
