"""Answers of a release whose quality is measured live: recorded before they are sent, with the keys of their rows."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from headrace_inference.core.served import Served
from headrace_runtime.errors import InvalidInput, Unavailable

from .conftest import MakeRelease
from .test_plane import ROW, Context, World, raw_request


@pytest.fixture
def recorded(graph: bytes, make_release: MakeRelease) -> Iterator[World]:
    world = World(graph, make_release)
    world.release(epoch=2, records=True)
    yield world
    world.compute.close()


def test_an_answer_waits_until_it_is_recorded(recorded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    request = raw_request()
    request.parameters["key"].string_param = "loan-7"
    assert recorded.plane.infer_now(request.SerializeToString(), Context()) is None
    written = asyncio.Event()

    async def record(served: Served) -> None:
        await written.wait()
        recorded.log.add(served)

    monkeypatch.setattr(recorded.log, "record", record)

    async def ask() -> None:
        answer = asyncio.ensure_future(recorded.plane.call("ModelInfer", request.SerializeToString(), Context()))
        done, _ = await asyncio.wait([answer], timeout=0.05)
        assert not done
        written.set()
        await answer

    asyncio.run(ask())
    (told,) = recorded.log.seen
    assert list(told.keys) == ["loan-7"]
    labels = recorded.model.signature.output("probabilities").labels
    assert told.places == (json.dumps(labels) if labels else "")


def test_an_answer_that_cannot_be_recorded_is_none(recorded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def record(_served: Served) -> None:
        raise Unavailable("the answer could not be recorded: away")

    monkeypatch.setattr(recorded.log, "record", record)
    with pytest.raises(Unavailable, match="could not be recorded"):
        recorded.infer(raw_request())


@pytest.mark.parametrize(
    ("rows", "key", "expected"),
    [
        (1, "7", ["7"]),
        (1, 7, ["7"]),
        (1, '["a", "b"]', ['["a", "b"]']),
        (2, '["a", 7]', ["a", "7"]),
        (2, None, []),
        (2, "a", None),
        (2, '["a"]', None),
        (2, '["a", 1.5]', None),
        (2, 7, None),
        (1, True, None),
    ],
)
def test_keys_are_those_of_the_rows(recorded: World, rows: int, key: Any, expected: list[str] | None) -> None:
    request = raw_request(np.repeat(ROW, rows, axis=0))
    if key is not None:
        kind = "bool_param" if key is True else "int64_param" if isinstance(key, int) else "string_param"
        setattr(request.parameters["key"], kind, key)
    if expected is None:
        with pytest.raises(InvalidInput, match="parameter 'key': expected"):
            recorded.infer(request)
        return
    recorded.infer(request)
    assert list(recorded.log.seen[-1].keys) == expected


def test_other_releases_tell_no_keys(graph: bytes, make_release: MakeRelease) -> None:
    world, request = World(graph, make_release), raw_request()
    request.parameters["key"].string_param = "loan-7"
    world.infer(request)
    assert (list(world.log.seen[-1].keys), world.log.seen[-1].places) == ([], "")
    world.compute.close()
