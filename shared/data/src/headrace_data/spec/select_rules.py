"""Rules about `stream.select`, and about conditions over rows that are written in the same language."""

from __future__ import annotations

from collections.abc import Iterator

from headrace_data.spec.draft import Draft, Finding
from headrace_data.spec.prepare import Clean
from headrace_data.spec.stream import Stream


def select_makes_the_rows(draft: Draft) -> Iterator[Finding]:
    """Demand a SELECT that makes rows of the schema. For documents only: it asks DuckDB, which not all have."""
    if not isinstance(draft.at("stream", "select"), str):
        return
    stream = draft.section(Stream, "stream")
    if stream is None or not draft.complete:
        return
    # Imported here: who has no SELECT needs no DuckDB.
    from headrace_data.select.checking import problems_of

    yield from ((("stream", "select"), problem) for problem in problems_of(stream))


def conditions_are_of_rows(draft: Draft) -> Iterator[Finding]:
    """Demand conditions over the fields of the schema. For documents only, as above."""
    path = ("prepare", "clean", "where")
    clean = draft.section(Clean, "prepare", "clean")
    if clean is None or not clean.where or not draft.complete:
        return
    from headrace_data.select.conditions import problems_of

    for problem in problems_of(clean.where, tuple(draft.fields.values())):
        number, _, told = problem.partition(":")
        yield (*path, int(number)), told.strip()
