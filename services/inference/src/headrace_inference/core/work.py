"""A call that was found to fit, and what is found for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from headrace_runtime.priorities import NORMAL

from headrace_inference.core.cache_key import cache_key
from headrace_inference.core.generation import Ask, Usage, messages_of
from headrace_inference.core.quickness import may_be_shared
from headrace_inference.core.shelf import LoadedVersion
from headrace_inference.core.statistics import VersionStatistics
from headrace_inference.core.tensors import Array
from headrace_inference.ports import Language


@dataclass(slots=True)
class Work:
    """A call that was found to fit."""

    version: LoadedVersion
    statistics: VersionStatistics
    arrays: dict[str, Array]
    outputs: tuple[str, ...]
    rows: int
    size_bytes: int
    read_s: float
    """Seconds that it took to read the call."""
    ask: Ask | None = None
    """What is asked of a model of language."""
    priority: int = NORMAL

    _key: bytes = b""

    async def render(self, language: Language) -> None:
        """Make the prompt of the conversation that is asked about. Raises InvalidInput, Unavailable."""
        assert self.ask is not None  # noqa: S101 - read for a model of language
        prompt = await language.prompt(self.version.release.model, messages_of(self.ask.prompt))
        self.ask = replace(self.ask, prompt=prompt)

    @property
    def key(self) -> bytes | None:
        """The key of its answer; None where equal calls may not have it."""
        if not may_be_shared(self.version, self.rows) or (self.ask is not None and not self.ask.repeats):
            return None
        if not self._key:
            decides = self.arrays if self.ask is None else self.ask.key
            self._key = cache_key(self.version.release.graph.digest, decides, self.outputs)
        return self._key

    @property
    def kept_key(self) -> bytes | None:
        """The key of its answer in the cache; None where it is not kept."""
        return self.key if self.version.cached else None


class Found(NamedTuple):
    """The outputs' part of an answer, whether it is that of an earlier call, and what a model of language took."""

    part: bytes
    cached: bool = False
    usage: Usage | None = None
