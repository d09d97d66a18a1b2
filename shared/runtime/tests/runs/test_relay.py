"""What a child elsewhere says is heard once, in order, and with its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import FAILED, Progress
from headrace_runtime.runs.folder import output_prefix
from headrace_runtime.runs.relay import KEPT, Ended, Hearing, Telling

OUTPUT = output_prefix("run-1", 2)


def line(step: int) -> Progress:
    return Progress(step, 9, {"loss": 0.5}, 1.5)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path))


def test_each_line_is_heard_once(store: ObjectStore) -> None:
    telling, hearing = Telling(store, OUTPUT), Hearing(store, OUTPUT)
    assert hearing.hear() == ([], None)
    telling.tell([line(1), line(2)])
    assert hearing.hear() == ([line(1), line(2)], None)
    assert hearing.hear() == ([], None)
    telling.tell([line(3)])
    telling.tell([], Ended(FAILED, "the disk is full"))
    assert hearing.hear() == ([line(3)], Ended(FAILED, "the disk is full"))


def test_who_listens_late_hears_the_last_lines(store: ObjectStore) -> None:
    telling, hearing = Telling(store, OUTPUT), Hearing(store, OUTPUT)
    telling.tell([line(1)])
    assert hearing.hear()[0] == [line(1)]
    telling.tell([line(step) for step in range(2, KEPT + 12)])
    assert [heard.step for heard in hearing.hear()[0]] == list(range(12, KEPT + 12))
    telling.tell([line(7)])
    assert hearing.hear()[0] == [line(7)]


@pytest.mark.parametrize("data", [b"[]", b'{"first": 0}', b"{", b'{"first": 0, "lines": [{}], "ended": null}'])
def test_something_else_is_no_line(store: ObjectStore, data: bytes) -> None:
    store.write(f"{OUTPUT}told.json", data)
    with pytest.raises(ValueError, match=r"expected|Expecting"):
        Hearing(store, OUTPUT).hear()
