"""`wait` beside a trouble of the pipeline, and a dataset that tells of repeated keys and late rows."""

from __future__ import annotations

import json

from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.pipeline_pb2 import PipelineTroubled
from headrace_client import stages, waiting
from headrace_data.near import CONTAMINATED, NEAR_DUPLICATES
from headrace_data.outliers import OUTLIERS


def test_what_is_wrong_is_told_once_and_is_no_movement(headrace, registry, canned, monkeypatch):
    monkeypatch.setattr(waiting, "HISTORY_S", 0.5)
    told = [
        PipelineTroubled(
            pipeline="digits", part="ingestion.digits", reason="no topic", occur_time=Timestamp(seconds=at)
        )
        for at in range(3)
    ]
    # The trouble is told again while nothing moves: the failure is what the waiting ends with.
    registry.states = {
        0: [canned.state(failure="no rows", troubles=told[:1])],
        1: [canned.state(failure="no rows", troubles=told[1:2]), canned.state(failure="no rows", troubles=told[2:])],
    }
    result = headrace("wait", "digits", "--timeout", "5s", "--json")
    assert result.exit_code == 1
    assert result.stderr.count("pipeline digits (ingestion.digits, instance ): no topic") == 1
    assert "dataset failed: no rows" in result.stderr
    answer = json.loads(result.stdout)
    assert answer["outcome"] == "failed"
    assert answer["troubles"][0]["reason"] == "no topic"


def test_rows_with_the_key_of_another_and_late_ones_are_told(headrace, registry, canned):
    dataset = canned.dataset()
    dataset.frozen.repeated_keys, dataset.frozen.late_rows = 120, 31
    registry.states = [canned.state(dataset=dataset)]
    result = headrace("wait", "digits", "--until", "frozen", "--timeout", "20s")
    assert "1257 train, 270 validation, 265 test, 120 with the key of another row, 31 late" in result.stderr


def test_what_is_left_out_of_training_is_told_apart_from_what_is_rejected() -> None:
    assert stages.rejected_text({"type": 1, "contaminated": 2, "nearDuplicates": 3}) == (
        "1 rejected (type 1), 5 left out of training (contaminated 2, nearDuplicates 3)"
    )
    assert stages.rejected_text({"nearDuplicates": 3}) == "3 left out of training (nearDuplicates 3)"
    assert stages.masked_text({"phone": 1, "email": 2}) == "3 masked (email 2, phone 1)"
    assert stages.rejected_text({}) == stages.masked_text({}) == ""
    assert tuple(stages.LEFT_OUT) == (CONTAMINATED, NEAR_DUPLICATES, OUTLIERS)


def test_few_rows_of_a_class_and_leaks_are_told_and_what_is_not_trained_for_them_fails(headrace, registry, canned):
    dataset = canned.dataset()
    dataset.frozen.rarest.label, dataset.frozen.rarest.split = "2", "test"
    dataset.frozen.rarest.rows, dataset.frozen.leaks.exact, dataset.frozen.leaks.near = 3, 12, 4
    state = canned.state(dataset=dataset)
    state.withheld = "expected at least 10 rows of each class in each split, got 3 of '2' in test: more rows"
    registry.states = [state]
    result = headrace("wait", "digits", "--timeout", "20s")
    assert result.exit_code == 1
    told = "16 training rows in validation or test, too (12 the same, 4 nearly so), 3 rows of '2' in test"
    assert f"265 test, {told}" in result.stderr
    assert "training failed: it was not asked for: expected at least 10 rows of each class" in result.stderr
    # Who waits for the dataset alone has it; and a class with enough rows is no news.
    dataset.frozen.rarest.rows = stages.FEW_ROWS
    registry.states = [canned.state(dataset=dataset)]
    result = headrace("wait", "digits", "--until", "frozen", "--timeout", "20s")
    assert (result.exit_code, "rows of '2'" in result.stderr) == (0, False)
