"""What the core of inference needs from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from headrace_engines.generator import Message, Piece
from headrace_runtime.priorities import NORMAL
from opentelemetry.context import Context

from headrace_inference.core.flights import Left
from headrace_inference.core.generation import Ask, Bounds
from headrace_inference.core.releases import Place, Release
from headrace_inference.core.served import Served
from headrace_inference.core.signature import Signature
from headrace_inference.core.tensors import Array

if TYPE_CHECKING:
    from headrace_inference.core.shelf import LoadedVersion


class Model(Protocol):
    """A loaded graph."""

    @property
    def signature(self) -> Signature:
        """Its inputs and outputs."""

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Compute the outputs named, in that order. May be called by several threads at once."""

    def sample(self) -> Mapping[str, Array]:
        """Return one row that it can answer."""

    def tokens(self, arrays: Mapping[str, Array]) -> int:
        """Return how many tokens it reads of texts; 0 where it reads none."""


class Computing(Protocol):
    """Where models are computed."""

    def check(
        self, version: LoadedVersion, rows: int, size_bytes: int, left_s: float | None, priority: int = NORMAL
    ) -> None:
        """Raise when a call of so many rows and bytes could not be computed in time, from any thread."""

    def strain(self, version: LoadedVersion, left_s: float | None) -> float:
        """Return how near a call of one row is to being refused, from 1 on; 0 of one that is quick."""

    async def run(
        self,
        version: LoadedVersion,
        arrays: Mapping[str, Array],
        outputs: Sequence[str],
        rows: int,
        size_bytes: int,
        left_s: Left,
        priority: int = NORMAL,
    ) -> tuple[list[Array], float]:
        """Return the outputs named, and the seconds that the call waited. Raises what `check` raises."""


class Answering(Protocol):
    """An answer that is being made, piece by piece."""

    @property
    def prompt_tokens(self) -> int:
        """How many tokens its prompt has."""

    @property
    def queue_s(self) -> float:
        """Seconds until the engine had taken it in."""

    def __aiter__(self) -> AsyncIterator[Piece]:
        """Iterate over its pieces. What ends without an error is whole.

        Raises Unavailable when the engine died, and DeadlineExceeded when the answer took too long.
        """


class Language(Protocol):
    """A model of language, and which calls it takes. Used in one event loop, but for `check` and `strain`."""

    @property
    def bounds(self) -> Bounds:
        """What one call may ask for."""

    def hold(self) -> bool:
        """Keep it in memory until `let_go`; return False where another has taken its place."""

    def let_go(self) -> None:
        """Keep it no longer."""

    def check(self, model: str, ask: Ask | None, size_bytes: int, left_s: float | None, priority: int = NORMAL) -> None:
        """Raise when a call could not be answered in time: Overloaded with the reason, or DeadlineExceeded.

        `ask` is None for a call of which nothing but its size is known, and the priority that it may have.
        """

    def strain(self, left_s: float | None) -> float:
        """Return how near a call is to being refused, from 1 on."""

    async def prompt(self, model: str, messages: Sequence[Message]) -> str:
        """Return the prompt for a conversation by the model's chat template. Raises InvalidInput, Unavailable."""

    def answering(
        self, model: str, ask: Ask, size_bytes: int, left_s: float | None
    ) -> AbstractAsyncContextManager[Answering]:
        """Begin an answer; what is left of it at the end is cancelled.

        Raises what `check` raises, InvalidInput for a prompt that does not fit, Unavailable when the engine died.
        """


class Predictions(Protocol):
    """Where it is told what was served."""

    def add(self, served: Served) -> None:
        """Take note, without waiting; may lose it."""

    def record(self, served: Served) -> Awaitable[None]:
        """Return what is done once Kafka has it; raises Unavailable when that cannot be told in time."""


class Hot(Protocol):
    """Answers that were given before."""

    async def get(self, model: str, key: bytes) -> bytes | None:
        """Return an answer that was kept under the key, or None."""

    def put(self, key: bytes, payload: bytes, ttl_s: float | None = None) -> None:
        """Keep an answer for `ttl_s` seconds (None: as long as the cache keeps values), off the caller's path."""


class Releases(Protocol):
    """Who serves what is released."""

    def announce(self, release: Release, cause: Context) -> None:
        """Take note of a release, in the trace that caused it."""

    def withdraw(self, place: Place) -> None:
        """Take note that a model's alias is served no more."""


class CallContext(Protocol):
    """What a transport tells about one call, and lets it answer beside the answer."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller stops waiting; None without a deadline."""

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Send metadata along with the answer."""


class StreamContext(CallContext, Protocol):
    """What a transport tells about one stream of calls."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """Return what the caller sent along."""


Method = Callable[[bytes, CallContext], Awaitable[bytes]]
"""Answers a serialised request. Raises errors of headrace_runtime.errors."""
