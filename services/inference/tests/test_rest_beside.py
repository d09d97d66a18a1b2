"""Large JSON is read in a process beside: the same answers, and nobody waits for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

import pytest
from headrace_inference.transport.rest import beside
from headrace_inference.transport.rest.beside import AT_ONCE_BYTES, Beside
from headrace_inference.transport.rest.reading import read_json
from headrace_inference.transport.rest.works import WORKS, asked_of
from headrace_runtime.errors import InvalidInput, Overloaded, Unavailable
from hypothesis import given
from hypothesis import strategies as st

CALL = {"model": "digits", "version": "", "json_bytes": None}


def body(values: int, **more: Any) -> bytes:
    data = {"name": "x", "datatype": "FP32", "shape": [values], "data": [0.5] * values}
    return json.dumps({"inputs": [data], **more}).encode()


LARGE = body(10_000)


def run(story: Callable[[Beside], Coroutine[Any, Any, None]]) -> None:
    async def told() -> None:
        with closing(Beside()) as opened:
            await asyncio.wait_for(story(opened), 60)

    asyncio.run(told())


def test_works_are_the_same_here_and_there() -> None:
    async def story(opened: Beside) -> None:
        assert await opened.do("call", CALL, body(3)) == WORKS["call"](CALL, body(3))
        assert opened._process is None, "small ones are done here"
        told, request = await opened.do("call", CALL, LARGE)
        assert opened._process is not None
        assert (told, request) == WORKS["call"](CALL, LARGE)
        texts = json.dumps({"model": "docs", "input": ["a"] * AT_ONCE_BYTES}).encode()
        assert await opened.do("embeddings", {}, texts) == WORKS["embeddings"]({}, texts)
        chat = json.dumps({"model": "m", "messages": [{"role": "user", "content": "ü" * AT_ONCE_BYTES}]}).encode()
        (there, _), (here, _) = await opened.do("chat", {}, chat), WORKS["chat"]({}, chat)
        assert asked_of(there) == asked_of(here)

    run(story)


def test_what_is_wrong_is_told_in_the_same_words() -> None:
    async def story(opened: Beside) -> None:
        wrong = body(10_000, priority=6)
        with pytest.raises(InvalidInput) as there:
            await opened.do("call", CALL, wrong)
        with pytest.raises(InvalidInput) as here:
            WORKS["call"](CALL, wrong)
        assert str(there.value) == str(here.value)
        assert (await opened.do("call", CALL, LARGE))[1], "and the process goes on"

    run(story)


def test_the_loop_goes_on_and_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "MOST_WAITING", 2)

    async def story(opened: Beside) -> None:
        waiting = [asyncio.create_task(opened.do("call", CALL, LARGE)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await opened.do("call", CALL, LARGE)
        assert await opened.do("call", CALL, body(3)), "small ones wait for nobody"
        assert not any(each.done() for each in waiting)
        waiting[0].cancel()
        assert (await waiting[1])[1], "who leaves takes no other answer with him"
        first, second = (asyncio.create_task(opened.do("call", CALL, LARGE)) for _ in range(2))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        third = asyncio.create_task(opened.do("call", CALL, LARGE))
        assert (await first)[1]
        assert (await third)[1], "who leaves before his turn leaves his place"
        assert await opened.do("call", CALL, LARGE) == WORKS["call"](CALL, LARGE)

    run(story)


def test_a_process_that_ends_is_started_anew() -> None:
    async def story(opened: Beside) -> None:
        await opened.do("call", CALL, LARGE)
        assert opened._process is not None
        opened._process.kill()
        with pytest.raises(Unavailable, match="binary data does not need it"):
            await opened.do("call", CALL, LARGE)
        assert (await opened.do("call", CALL, LARGE))[1]

    run(story)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(':\\"a\n', max_size=5)


@given(
    st.recursive(
        PLAIN | TEXTS, lambda each: st.lists(each, max_size=4) | st.dictionaries(TEXTS, each, max_size=4), max_leaves=12
    ),
    st.booleans(),
)
def test_json_is_what_the_standard_library_reads(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert read_json(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":2},"c:":":"}',
        b'{"a":"\\u003a","a":""}',
        b'{"a":"\\u003A","a":1}',
        b'[{"a":[1,{"x":1,"x":2}]}]',
        b'{"\\u0061":1,"a":2}',
        b"[NaN]",
        b"[1e]",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_json_that_is_doubtful_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_json(text)
