"""A process beside this one for large JSON: while a parser works, it holds the interpreter, and every call with it."""

from __future__ import annotations

from typing import Final

from headrace_inference.transport.other_process import OtherProcess, Told, Words
from headrace_inference.transport.rest.works import WORKS

AT_ONCE_BYTES: Final = 16 * 1024
"""JSON up to this size is read here, within a few milliseconds: the way to the process takes 0.3 ms."""
MOST_WAITING: Final = 64
"""Bodies that may wait for the process; others are Overloaded."""
LIMIT_S: Final = 60.0
"""Seconds that one body may take."""
_CHILD: Final = "headrace_inference.transport.rest.beside_child"
_WORDS: Final = Words(
    "bodies of large JSON wait already: binary data need not wait",
    "the process that reads large JSON ended; binary data does not need it",
)


class Beside(OtherProcess):
    """Does works, here or there. Used in one event loop; the process is started at the first large body."""

    def __init__(self) -> None:
        super().__init__(_CHILD, _WORDS)

    async def do(self, work: str, told: Told, body: bytes, json_bytes: int | None = None) -> tuple[Told, bytes]:
        """Return what a work makes of a body of which `json_bytes` are JSON (None: all).

        Raises InvalidInput as the work does, Overloaded where too many wait, and Unavailable where the process ended.
        """
        if (len(body) if json_bytes is None else json_bytes) <= AT_ONCE_BYTES:
            return WORKS[work](told, body)
        return await self.ask({"work": work, **told}, body, MOST_WAITING, LIMIT_S)
