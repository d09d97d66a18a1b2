"""The folder of a run: which ids name one, whose result counts, and what its past tells."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from headrace_runtime.errors import Corrupt, Unprocessable
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.folder import (
    MOST_ATTEMPTS,
    Past,
    RunFolder,
    attempt_of,
    check_run_id,
    output_prefix,
    result_name,
)
from hypothesis import given
from hypothesis import strategies as st

RESULT = {"version": "sha256:1", "metrics": {"loss": 0.25, "f1": 1}, "attempt": 2, "run_id": "run-1"}


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path))


@pytest.fixture
def folder(store: ObjectStore) -> RunFolder:
    return RunFolder(store, "run-1")


def begin(folder: RunFolder, attempt: int, command: str = "t:0:5") -> None:
    folder.begin(attempt, json.dumps({"command": command}).encode())


@pytest.mark.parametrize("run_id", ["train-0f", "a", "A.b_c-9", "x" * 128])
def test_ids_that_name_a_run(run_id: str) -> None:
    assert check_run_id(run_id) == run_id


@given(st.text())
def test_whatever_passes_for_an_id_is_one_part_of_a_path(run_id: str) -> None:
    with suppress(Unprocessable):
        assert Path(check_run_id(run_id)).name == run_id
        assert run_id.isascii()


def test_a_message_shows_the_beginning_of_a_bad_id() -> None:
    with pytest.raises(Unprocessable, match=r"got 'x{40}…' \(300 characters\)"):
        check_run_id("x" * 300)


def test_a_result_comes_back(folder: RunFolder) -> None:
    assert folder.result() is None
    folder.write_result(RESULT)
    assert folder.result() == RESULT


def test_no_byte_of_a_result_can_change_unnoticed(store: ObjectStore, folder: RunFolder) -> None:
    folder.write_result(RESULT)
    data = store.read(result_name("run-1")) or b""
    for place in range(len(data)):
        for bit in range(8):
            changed = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            store.write(result_name("run-1"), changed, flushed=False)
            try:
                assert folder.result() == RESULT
            except Corrupt:
                continue


def test_a_result_from_before_there_were_digests_is_read(store: ObjectStore, folder: RunFolder) -> None:
    store.write(result_name("run-1"), json.dumps(RESULT).encode())
    assert folder.result() == RESULT


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"{",
            b"[]",
            b"null",
            b"{}",
            b"\xff",
            b"[" * 100_000,
            b'{"result": {}}',
            b'{"result": [], "digest": ""}',
        ),
        b'{"run_id": "another"}',
        b'{"run_id": "run-1", "result": {"run_id": "run-1"}}',
        b'{"result": {"loss": NaN}, "digest": "sha256:0"}',
    ],
)
def test_what_is_no_result_is_told(store: ObjectStore, folder: RunFolder, data: bytes) -> None:
    store.write(result_name("run-1"), data)
    with pytest.raises(Corrupt, match=r"runs/run-1/result\.json: expected "):
        folder.result()


@pytest.mark.parametrize(
    ("name", "attempt"),
    [
        ("runs/r/attempt-7/curve.json", 7),
        ("runs/r/attempt-7", 0),
        ("runs/r/attempt-x/a", 0),
        ("runs/r/attempt-07/a", 0),
        ("runs/r/attempt-9999999999/a", 0),
        ("runs/r/attempt-\u0667/a", 0),
        ("runs/r/result.json", 0),
    ],
)
def test_files_belong_to_attempts(name: str, attempt: int) -> None:
    assert attempt_of(name) == attempt


def test_attempts_without_an_end_are_deaths(folder: RunFolder) -> None:
    assert folder.past("t:0:5") == Past(0, 0, 0, "")
    for attempt in (1, 2, 3, 4):
        begin(folder, attempt)
    folder.end(1, "interrupted", "the worker stops")
    folder.end(3, "failed", "the disk is full")
    assert folder.past("t:0:5") == Past(4, failures=1, deaths=2, reason="the disk is full")


def test_a_file_in_the_place_of_an_attempt_takes_its_number(store: ObjectStore, folder: RunFolder) -> None:
    store.write("runs/run-1/attempt-1", b"")
    assert folder.past("t:0:5") == Past(1, failures=0, deaths=0, reason="")
    begin(folder, 2)
    assert folder.past("t:0:5") == Past(2, failures=0, deaths=1, reason="")


def test_there_is_no_attempt_after_the_last_one(store: ObjectStore, folder: RunFolder) -> None:
    store.write(f"{output_prefix('run-1', MOST_ATTEMPTS)}a", b"")
    assert folder.past("t:0:5").latest == MOST_ATTEMPTS
    with pytest.raises(Unprocessable, match="expected attempts up to 999999999"):
        begin(folder, MOST_ATTEMPTS + 1)


def test_what_lies_in_the_way_of_a_run_is_told(store: ObjectStore, folder: RunFolder) -> None:
    store.write("runs/run-1", b"")
    for attempted in (folder.result, lambda: begin(folder, 1), lambda: folder.write_result({})):
        with pytest.raises(Unprocessable, match="something else lies in the way"):
            attempted()
    assert folder.past("t:0:5") == Past(0, 0, 0, "")


def test_an_attempt_that_got_on_wipes_out_what_was_before(store: ObjectStore, folder: RunFolder) -> None:
    for attempt in (1, 2, 3):
        begin(folder, attempt)
    store.write(f"{output_prefix('run-1', 2)}checkpoint-1.json", b"")
    assert folder.past("t:0:5") == Past(3, failures=0, deaths=1, reason="")


def test_a_run_that_is_asked_for_again_has_all_its_attempts_anew(folder: RunFolder) -> None:
    begin(folder, 1)
    begin(folder, 2, command="t:0:9")
    assert folder.past("t:0:9") == Past(2, failures=0, deaths=1, reason="")
    assert folder.past("t:0:11") == Past(2, failures=0, deaths=0, reason="")


def test_a_run_that_has_ended_keeps_what_tells_of_it_and_no_checkpoint(store: ObjectStore, folder: RunFolder) -> None:
    begin(folder, 1)
    for attempt in (1, 2):
        for name in ("checkpoint-0.json", "checkpoint-0.safetensors", "curve.json"):
            store.write(f"{output_prefix('run-1', attempt)}{name}", b"{}")
    folder.write_result(RESULT)
    folder.clear()
    folder.clear()
    told = (
        "runs/run-1/attempt-1/assignment.json",
        "runs/run-1/attempt-1/curve.json",
        "runs/run-1/attempt-2/curve.json",
    )
    assert store.list("runs") == [*told, "runs/run-1/result.json"]
