"""Rules about `stream.format` and the rest of a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace_data.spec.draft import SCHEMA, Draft, Finding, built
from headrace_data.spec.formats import CsvFormat
from headrace_data.spec.yaml_tree import Path


def columns_hold_the_fields(draft: Draft) -> Iterator[Finding]:
    """Demand a column for each field that a record must have, where columns are named and nothing is selected."""
    told = built(CsvFormat, draft.at("stream", "format"))
    if told is None or told.columns is None or draft.at("stream", "select") is not None:
        return
    comes_later = draft.at("stream", "labels") is not None
    for position, field in draft.fields.items():
        if comes_later and field.role == "label":
            continue
        if not field.nullable and field.name not in told.columns:
            yield (*SCHEMA, position, "name"), f"expected one of stream.format.columns, got {field.name!r}"


def schemas_can_be_read(draft: Draft) -> Iterator[Finding]:
    """Demand that a schema in the document is one, where the libraries are here that read with it."""
    for place in (("stream", "format"), ("stream", "labels", "format")):
        told = draft.at(*place)
        if isinstance(told, dict) and isinstance(told.get("schema"), str):
            yield from _problem(place, told)


def _problem(place: Path, told: dict[str, Any]) -> Iterator[Finding]:
    # The formats know the spec, and a spec is read where no record is.
    from headrace_data.formats import problem_of

    if problem := problem_of(told):
        yield (*place, "schema"), problem
