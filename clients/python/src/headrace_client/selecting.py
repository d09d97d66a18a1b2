"""Records as producers send them, made into a model's inputs by the SELECT of its pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_client.errors import RowProblem, RowsInvalid
from headrace_client.registry import RegistryClient

if TYPE_CHECKING:
    from headrace_data.spec import Stream

_AT_ONCE: Final = 1_000


def selecting_stream(registry: RegistryClient, model: str) -> Stream | None:
    """Return the stream of the pipeline that serves a model, where its records become rows by a SELECT; else None.

    Raises as the registry's client does.
    """
    for applied in registry.pipelines():
        told = json.loads(applied.spec.json)
        name = told.get("train", {}).get("model") or told.get("metadata", {}).get("name")
        if name == model and told.get("stream", {}).get("select"):
            # Imported here: a model without a SELECT needs no spec.
            from headrace_data.spec import parse_canonical

            return parse_canonical(applied.spec.json).stream
    return None


def selected_rows(stream: Stream, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the features that a stream's SELECT makes of records.

    Raises RowsInvalid with every record that it cannot be computed of.
    """
    from headrace_data.select.projecting import Projection

    names = [field.name for field in stream.features]
    projection = Projection(stream, names)
    rows: list[dict[str, Any]] = []
    problems: list[RowProblem] = []
    for start in range(0, len(records), _AT_ONCE):
        gathered = projection.gather()
        some = [dict(record) for record in records[start : start + _AT_ONCE]]
        gathered.add(some, range(start, start + len(some)))
        made = gathered.computed()
        problems += [
            RowProblem(fault.position + 1, fault.name, fault.reason.removeprefix(f"{fault.name}: "))
            for fault in made.faults
        ]
        columns = [made.columns[name] for name in names]
        rows += [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if problems:
        raise RowsInvalid(problems)
    return rows
