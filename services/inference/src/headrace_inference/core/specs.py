"""The specs of pipelines that are in force: how ingestion reads their records now."""

from __future__ import annotations

from typing import NamedTuple


class Spec(NamedTuple):
    """A pipeline's spec as canonical JSON, with its digest."""

    digest: str
    json: bytes


class Specs:
    """Specs by the names of pipelines. Changed by one thread, looked at by any."""

    def __init__(self) -> None:
        self._found: dict[str, Spec] = {}
        self.complete = False
        """Whether every spec that was in force at the start has been seen."""
        self.trouble = ""
        """Why they cannot be; empty where nothing is known to be wrong."""

    def put(self, pipeline: str, spec: Spec) -> None:
        """Note the spec of a pipeline."""
        self._found[pipeline] = spec

    def remove(self, pipeline: str) -> None:
        """Forget a pipeline that is deleted."""
        self._found.pop(pipeline, None)

    def of(self, pipeline: str) -> Spec | None:
        """Return the spec of a pipeline; None where there is none, or it has not been seen yet."""
        return self._found.get(pipeline)

    def all_seen(self) -> None:
        """Note that every spec that was in force at the start has been seen."""
        self.complete, self.trouble = True, ""
