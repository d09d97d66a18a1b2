"""Records that the process which reads them dies of: found by halving, and rejected alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from headrace_runtime.errors import Unavailable
from headrace_runtime.poison.bisection import CRASH

from headrace_inference.transport.other_process import Ended, Told

MOST_DEATHS: Final = 12
"""Deaths that one call may cost: after each the process starts anew, and others wait. So one of 1,024 is found."""
_REASON: Final = "expected a record that can be read, got one of which the process that reads dies"


class DiesOften(Unavailable):
    """The process that reads died too often of the records of one call: there may be too many such among them."""


Ask = Callable[[Told], Awaitable[tuple[Told, bytes]]]
"""Asks the process about the records of one call."""


async def read_around(ask: Ask, told: Told) -> tuple[Told, bytes]:
    """Return what becomes of the records of a call of which the process died once.

    Whatever it died of may have been no record: it is asked once more. Raises DiesOften, and what `ask` raises.
    """
    search = _Search(ask, told)
    try:
        return await ask(told)
    except Ended:
        search.died()
    count = (await ask({**told, "work": "count"}))[0]["count"]
    await search.narrow(0, count)
    found, call = await ask({**told, "without": [[at, at + 1] for at in search.fatal]})
    rejected = [[at, 0, CRASH, "", _REASON] for at in search.fatal]
    if "rejected" in found:
        found["rejected"] += rejected  # what records refer to is asked for before any is read
    return found, call


class _Search:
    """Looks for the records that are fatal."""

    def __init__(self, ask: Ask, told: Told) -> None:
        self._ask = ask
        self._told = told
        self._deaths = 1
        self.fatal: list[int] = []

    async def dies(self, start: int, end: int) -> bool:
        """Return whether the process dies of some of the records."""
        try:
            await self._ask({**self._told, "without": [[0, start], [end, None]]})
        except Ended:
            self.died()
            return True
        return False

    def died(self) -> None:
        """Count a death. Raises DiesOften when there were too many."""
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise DiesOften(f"the process that reads records died {MOST_DEATHS} times of one call: send fewer in one")

    async def narrow(self, start: int, end: int) -> None:
        """Note which of some records are fatal, as one of them is."""
        if end - start == 1:
            self.fatal.append(start)
            return
        middle = (start + end) // 2
        for first, last in ((start, middle), (middle, end)):
            if await self.dies(first, last):
                await self.narrow(first, last)
