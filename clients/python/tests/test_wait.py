"""`wait`, `freeze` and what they mean by done, failed and too late."""

from __future__ import annotations

import json
import time
from typing import Any

import grpc
import pytest
from headrace.events.v1.run_pb2 import RUN_KIND_MEASUREMENT
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client import waiting
from headrace_client.stages import Goal, Wanted, stages

RUNNING, SUCCEEDED, FAILED = messages.RUN_STATE_RUNNING, messages.RUN_STATE_SUCCEEDED, messages.RUN_STATE_FAILED
CANDIDATE, RELEASED, REFUSED = (
    messages.VERSION_STATE_CANDIDATE,
    messages.VERSION_STATE_RELEASED,
    messages.VERSION_STATE_REFUSED,
)
TIME_IS_OVER = grpc.StatusCode.DEADLINE_EXCEEDED
ONLY_NEW = "which does not count: only new ones bring the next"
"""Cuts a stream just as the client's own deadline does, and needs no waiting in a test."""


@pytest.fixture(autouse=True)
def _history(request, monkeypatch):
    """Give what moves ample time, and do not sit out the pause where nothing does."""
    moves = "from_before" in request.node.name or "old_one" in request.node.name
    monkeypatch.setattr(waiting, "HISTORY_S", 30.0 if moves else 0.1)


def test_the_deadline_is_kept(headrace, registry):
    """The registry says nothing at all."""
    result = headrace("wait", "digits", "--timeout", "200ms")
    assert result.exit_code == 1
    assert "was not released after 0.2 s: still waiting for the registry's first answer" in result.stderr


def test_follows_from_the_first_record_to_the_release(headrace, registry, canned):
    dataset = canned.dataset()
    done = canned.training(SUCCEEDED)
    registry.states = [
        canned.state(),
        canned.state(filling=canned.filling(512)),
        canned.state(dataset=dataset, runs=[canned.training(RUNNING)]),
        canned.state(dataset=dataset, runs=[canned.training(RUNNING, epoch=3)]),
        canned.state(
            dataset=dataset,
            runs=[done, canned.compression(RUNNING)],
            version=canned.version(CANDIDATE, measured=False),
        ),
        canned.state(
            dataset=dataset,
            runs=[done, canned.compression(SUCCEEDED)],
            version=canned.version(CANDIDATE),
        ),
        canned.released_state(),
    ]
    result = headrace("wait", "digits", "--timeout", "20s")
    assert result.exit_code == 0, result.output
    progress = result.stderr.splitlines()
    assert "records      running  512 of 1797 rows, 2 rejected (range 2)" in progress
    assert "records      done     1792 rows, 3 rejected (range 2, type 1)" in progress
    assert "dataset      done     dddddddddddd: 1257 train, 270 validation, 265 test" in progress
    assert "training     running  epoch 3 of 40, loss 0.1667, validation loss 0.2000, about 1 min 12 s left" in progress
    assert "training     done     31 epochs, test accuracy 0.9811" in progress
    assert "compression  done     variants fp32, int8" in progress
    assert "release      done     digits version 1, fp32, as champion" in progress
    assert len(progress) == len(set(progress)), "a line is said once"
    assert "pipeline 'digits' is released: digits version 1, fp32, as champion" in result.stdout
    assert "agreement" in result.stdout
    assert not registry.states


def test_ends_at_once_when_everything_is_done(headrace, registry, canned):
    registry.states = [canned.released_state()]
    started = time.monotonic()
    assert headrace("wait", "digits").exit_code == 0
    assert time.monotonic() - started < 5


def test_a_class_that_no_compressor_measures_is_not_waited_for(headrace, registry, canned):
    released = canned.released_state()
    released.runs.add().MergeFrom(canned.compression(RUNNING))
    released.runs[-1].kind = RUN_KIND_MEASUREMENT
    registry.states = [released]
    result = headrace("wait", "digits", "--timeout", "2s")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("until", ["frozen", "trained"])
def test_ends_at_the_goal_asked_for(headrace, registry, canned, until):
    training = [] if until == "frozen" else [canned.training(SUCCEEDED), canned.compression(RUNNING)]
    parts = {"version": canned.version(CANDIDATE, measured=False)} if until == "trained" else {}
    registry.states = [canned.state(dataset=canned.dataset(), runs=training, **parts)]
    result = headrace("wait", "digits", "--until", until, "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["until"], answer["outcome"], answer["reason"]) == (until, "done", None)
    assert answer["stages"][-1]["state"] == "done"


def test_a_dataset_of_an_older_spec_does_not_count(headrace, registry, canned):
    """After `apply` of a changed spec, what the old one brought is no answer."""
    old = canned.released_state()
    old.dataset.CopyFrom(canned.dataset("c", canned.old_spec))
    registry.states = [old, canned.released_state()]
    result = headrace("wait", "digits", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["dataset"]["dataset_id"] == canned.digest("d")
    assert not registry.states


def test_a_failure_of_an_older_spec_does_not_count(headrace, registry, canned):
    old = canned.state(
        dataset=canned.dataset("c", canned.old_spec), runs=[canned.training(FAILED, reason="diverged", letter="c")]
    )
    registry.states = [old, canned.released_state()]
    assert headrace("wait", "digits").exit_code == 0


def test_a_spec_applied_while_waiting_counts_from_then_on(headrace, registry, canned):
    newer = canned.released_state()
    newer.dataset.CopyFrom(canned.dataset("d", canned.digest("6")))

    class Applies(list[Any]):
        def pop(self, index=-1, /):
            if len(self) == 1:
                registry.pipelines = [canned.pipeline(spec_digest=canned.digest("6"))]
            return super().pop(index)

    registry.states = Applies([canned.state(filling=canned.filling(3)), newer])
    assert headrace("wait", "digits").exit_code == 0


def test_a_newer_dataset_under_way_is_waited_for(headrace, registry, canned):
    """The first version is released, the second one's dataset is frozen: the second is meant."""
    second = canned.dataset("c")
    registry.states = [
        canned.state(dataset=second, runs=[canned.training(RUNNING, epoch=1, letter="c")], release=canned.release()),
        canned.state(
            dataset=second,
            runs=[canned.training(SUCCEEDED, letter="c"), canned.compression(SUCCEEDED)],
            version=canned.version(RELEASED, letter="f", dataset="c"),
            release=canned.release("f", 2),
        ),
    ]
    result = headrace("wait", "digits")
    assert result.exit_code == 0
    assert "digits version 2" in result.stdout


@pytest.mark.parametrize("shown", [slice(None), slice(len("sha256:"), len("sha256:") + 12)])
def test_after_leaves_out_the_dataset_that_is_there(headrace, registry, canned, shown):
    newer = canned.released_state()
    newer.dataset.CopyFrom(canned.dataset("c"))
    registry.states = [canned.released_state(), newer]
    registry.datasets = [canned.dataset("d")]
    result = headrace("wait", "digits", "--after", canned.digest("d")[shown], "--json")
    assert json.loads(result.stdout)["dataset"]["dataset_id"] == canned.digest("c")


def test_after_an_unknown_dataset_is_no_end_at_once(headrace, registry, canned):
    registry.states = [canned.released_state()]
    registry.datasets = [canned.dataset("d"), canned.dataset("c"), canned.dataset("c")]
    unknown, several = headrace("wait", "digits", "--after", "null"), headrace("wait", "digits", "--after", "sha256:")
    assert (unknown.exit_code, several.exit_code) == (1, 1)
    assert "pipeline 'digits' has no dataset 'null'" in unknown.stderr
    assert "got 'sha256:', which fits 2" in several.stderr


@pytest.mark.parametrize(("rows", "more"), [(99, "; a pause takes 100 or more"), (100, "")])
def test_says_that_too_few_rows_wait_for_a_pause(headrace, registry, canned, rows, more):
    document = {"metadata": {"name": "digits"}, "prepare": {"freeze": {"afterIdle": "5s", "minRecords": 100}}}
    registry.pipelines[0].spec.json = json.dumps(document).encode()
    registry.states = [canned.state(filling=canned.filling(rows)), TIME_IS_OVER]
    result = headrace("wait", "digits")
    assert f"still waiting for records ({rows} of 1797 rows, 2 rejected (range 2){more})" in result.stderr


def test_a_run_on_an_older_version_of_the_same_dataset_is_waited_for(headrace, registry, canned):
    """The dataset was frozen again with other training settings: its old release is no answer."""
    again = canned.released_state()
    again.runs.add().CopyFrom(canned.training(RUNNING, epoch=2))
    registry.states = [again, TIME_IS_OVER]
    result = headrace("wait", "digits")
    assert result.exit_code == 1
    assert "still waiting for training (epoch 2 of 40" in result.stderr


@pytest.mark.parametrize("fault", ["freeze", "training", "compression", "refused", "refused again"])
def test_ends_in_failure_with_the_reason(headrace, registry, canned, fault):
    dataset, training = canned.dataset(), canned.training(SUCCEEDED)
    state, reason = {
        "freeze": (
            canned.state(failure="the label has one value"),
            "dataset failed: the label has one value",
        ),
        "training": (
            canned.state(dataset=dataset, runs=[canned.training(FAILED, reason="loss is NaN at epoch 2")]),
            "training failed: run 111111111111: loss is NaN at epoch 2",
        ),
        "compression": (
            canned.state(
                dataset=dataset,
                runs=[training, canned.compression(FAILED, reason="no such operator")],
                version=canned.version(REFUSED, reason="compression: no such operator", measured=False),
            ),
            "compression failed: run 222222222222: no such operator",
        ),
        "refused": (
            canned.state(
                dataset=dataset,
                runs=[training, canned.compression(SUCCEEDED)],
                version=canned.version(REFUSED, reason="no variant passed its gates"),
            ),
            "release failed: version 1 was refused: no variant passed its gates",
        ),
        "refused again": (
            canned.state(
                dataset=dataset,
                runs=[training, canned.compression(SUCCEEDED)],
                version=canned.version(RELEASED, reason="worse than the champion"),
                release=canned.release("f", 2),
            ),
            "release failed: version 1 was refused: worse than the champion",
        ),
    }[fault]
    registry.states = [state]
    result = headrace("wait", "digits", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["outcome"], answer["reason"]) == ("failed", reason)
    assert f"error: {reason}" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("fault", ["freeze", "training"])
def test_a_failure_from_before_is_history_when_records_come_in(headrace, registry, canned, fault):
    """The last try failed, the user sends better records and waits for what they bring."""
    failed = {
        "freeze": canned.state(failure="the label has one value"),
        "training": canned.state(
            dataset=canned.dataset("c"), runs=[canned.training(FAILED, reason="loss is NaN", letter="c")]
        ),
    }[fault]
    filling = type(failed)()
    filling.CopyFrom(failed)
    filling.filling.CopyFrom(canned.filling(3))
    registry.states = {0: [failed, filling, canned.released_state()], 1: [failed, filling]}
    result = headrace("wait", "digits", "--timeout", "20s")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("filled", [True, False])
def test_rows_that_came_after_a_failed_freeze_have_the_time_of_the_next_one(headrace, registry, canned, filled):
    document = {"metadata": {"name": "digits"}, "prepare": {"freeze": {"afterIdle": "700ms"}}}
    registry.pipelines[0].spec.json = json.dumps(document).encode()
    failed = canned.state(failure="no test rows", **({"filling": canned.filling(205)} if filled else {}))
    registry.states = {0: [failed], 1: [failed]}

    result = headrace("wait", "digits", "--timeout", "20s")

    assert (result.exit_code, result.stderr.count("dataset failed: no test rows")) == (1, 1)
    assert (registry.watched_s[1] > 0.5) == filled


def test_a_new_failure_ends_the_wait_after_an_old_one(headrace, registry, canned):
    old, filling, new = (
        canned.state(failure="the label has one value"),
        canned.state(failure="the label has one value", filling=canned.filling(3)),
        canned.state(failure="the test split is empty"),
    )
    registry.states = {0: [old, filling, new], 1: [old, filling]}
    result = headrace("wait", "digits", "--timeout", "20s")
    assert result.exit_code == 1
    assert "error: dataset failed: the test split is empty" in result.stderr


def test_a_time_out_remembers_the_failure_from_before(headrace, registry, canned):
    old = canned.state(failure="the label has one value")
    filling = canned.state(failure="the label has one value", filling=canned.filling(3))
    registry.states = {0: [old, filling, TIME_IS_OVER], 1: [old, filling]}
    result = headrace("wait", "digits")
    assert result.exit_code == 1
    assert "before that, dataset failed: the label has one value" in result.stderr


def test_a_failed_freeze_does_not_undo_what_is_released(headrace, registry, canned):
    state = canned.released_state()
    state.failure = "nothing to freeze"
    registry.states = [state]
    assert headrace("wait", "digits").exit_code == 0


@pytest.mark.parametrize(
    ("parts", "awaited"),
    [
        ({}, "records (none has come in yet)"),
        ({"spec": "gates"}, f"records (none since dataset {'d' * 12}, {ONLY_NEW})"),
        ({"filling": 512}, "records (512 of 1797 rows, 2 rejected (range 2))"),
        ({"run": True}, "training (run 111111111111 was asked for)"),
    ],
)
def test_a_time_out_says_what_it_waited_for(headrace, registry, canned, parts, awaited):
    state = canned.state()
    if "filling" in parts:
        state.filling.CopyFrom(canned.filling(parts["filling"]))
    if parts.keys() & {"spec", "run"}:
        state = canned.state(dataset=canned.dataset(), runs=[canned.training(RUNNING)])
        state.dataset.frozen.spec_digest = parts.get("spec", state.dataset.frozen.spec_digest)
    registry.states = [state, TIME_IS_OVER]
    result = headrace("wait", "digits", "--timeout", "1m30s", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["outcome"] == "timed_out"
    assert answer["reason"].endswith(f"still waiting for {awaited}")
    assert "'digits' was not released after 1 min 30 s" in result.stderr


@pytest.mark.slow
def test_a_registry_that_restarts_does_not_end_the_wait(headrace, registry, canned):
    registry.states = [
        canned.state(filling=canned.filling(5)),
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNAVAILABLE,
        canned.released_state(),
    ]
    assert headrace("wait", "digits", "--timeout", "20s").exit_code == 0


def test_another_error_of_the_stream_ends_the_wait(headrace, registry, canned):
    registry.states = [canned.state(filling=canned.filling(5)), grpc.StatusCode.INTERNAL]
    result = headrace("wait", "digits", "--timeout", "20s")
    assert result.exit_code == 1
    assert "failed: the stream was cut" in result.stderr


def test_an_unknown_pipeline_is_said_at_once(headrace, registry):
    result = headrace("wait", "letters")
    assert result.exit_code == 1
    assert "there is no pipeline 'letters'" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--until", "perfect"], ["--timeout", "5"], ["--timeout", "soon"], ["--timeout", "0s"]]
)
def test_wrong_usage(headrace, registry, arguments):
    assert headrace("wait", "digits", *arguments).exit_code == 2


def test_freeze_waits_for_its_own_dataset(headrace, registry, canned):
    registry.states = [canned.state(dataset=canned.dataset("c", request_id="request-6"))]
    registry.states.append(canned.state(dataset=canned.dataset("d", request_id="request-7")))
    result = headrace("freeze", "digits", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["request_id"] == "request-7"
    assert answer["dataset"]["dataset_id"] == canned.digest("d")


def test_freeze_shows_rows_and_rejected(headrace, registry, canned):
    registry.states = [canned.state(dataset=canned.dataset("d", request_id="request-7"))]
    result = headrace("freeze", "digits")
    assert f"dataset {canned.digest('d')}" in result.stdout
    assert "1257 train, 270 validation, 265 test rows, 3 rejected (range 2, type 1)" in result.stdout


def test_a_freeze_that_fails(headrace, registry, canned):
    registry.states = [canned.state(), canned.state(failure="no clean row is waiting")]
    result = headrace("freeze", "digits")
    assert result.exit_code == 1
    assert "the freeze failed: no clean row is waiting" in result.stderr


def test_freeze_without_waiting(headrace, registry):
    result = headrace("freeze", "digits", "--no-wait", "--json")
    assert json.loads(result.stdout) == {"pipeline": "digits", "request_id": "request-7", "dataset": None}


def test_freeze_times_out(headrace, registry, canned):
    registry.states = [canned.state(), TIME_IS_OVER]
    result = headrace("freeze", "digits")
    assert result.exit_code == 1
    assert "request-7" in result.stderr
    assert "still not frozen" in result.stderr


def test_a_regression_is_told_by_its_error(canned):
    state = canned.released_state()
    state.version.trained.metrics.clear()
    state.version.trained.metrics.update({"rmse": 312.4, "mae": 200.0, "r2": 0.8})
    wanted = Wanted(state.dataset.frozen.spec_digest)

    training = next(stage for stage in stages(state, Goal.RELEASED, wanted) if stage.name == "training")

    assert training.text == "31 epochs, test rmse 312.4000"
