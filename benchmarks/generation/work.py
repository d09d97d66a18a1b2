"""What both sides do: the same questions, up to so many tokens each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

TOKENS = 64
LONG_TOKENS = 160
STEP_TOKENS = 256
CACHE_BYTES = 2**30
STREAMS = 8
ASKED = ("of a water wheel", "of a river that bends", "of the first mill", "of a miller and his grain")


@dataclass(frozen=True, slots=True)
class Figures:
    """One round."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    first_s: float
    """Time from the call to its first token, the median of the callers."""


@dataclass(frozen=True, slots=True)
class Late:
    """A caller who comes while others stream."""

    first_s: float
    """Until the first token."""
    prefill_s: float
    """The same with nobody else."""
    step_s: float
    """Between two tokens of those who stream, the median."""


def questions(callers: int, number: int) -> list[str]:
    """Return what the callers of a round ask, different in each round: nothing of it is known from before."""
    return [
        f"Write a long story {ASKED[place % 4]}, in {number} chapters and {place} lines." for place in range(callers)
    ]


def serve(measure: Callable[[int, int], Figures], late: Callable[[int], Late], memory: Callable[[], float]) -> None:
    """Answer the lines of the standard input: `callers round`, `late round`, `memory`."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        what, _, number = line.strip().partition(" ")
        if what == "memory":
            answer: object = memory()
        elif what == "late":
            answer = asdict(late(int(number)))
        else:
            answer = asdict(measure(int(what), int(number)))
        print(json.dumps(answer), flush=True)
