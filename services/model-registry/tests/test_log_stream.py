"""The log as a stream of answers."""

import asyncio
import threading
from contextlib import aclosing

from headrace_model_registry.transport.log_stream import ANSWER_BYTES, chunks


def test_the_log_comes_in_answers_of_bounded_size_and_is_let_go_when_nobody_asks():
    entries = [(3 * number, bytes(ANSWER_BYTES // 3)) for number in range(10)]
    closed = threading.Event()

    def lines():
        try:
            yield from entries
        finally:
            closed.set()

    async def read(most):
        taken = []
        async with aclosing(chunks(lines)) as answers:
            async for answer in answers:
                taken.append([(line.offset, line.value) for line in answer.lines])
                if len(taken) == most:
                    break
        return taken

    every = asyncio.run(read(99))
    assert [each for answer in every for each in answer] == entries
    assert [len(answer) for answer in every] == [4, 4, 2]
    closed.clear()
    assert asyncio.run(read(1)) == [entries[:4]]
    assert closed.wait(60)
