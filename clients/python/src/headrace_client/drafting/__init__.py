"""From a sample of records to a pipeline's YAML: pure, records in, text out.

A draft loads without problems, and its schema takes the records it was made from, but for those that it names as
faulty: records that are no JSON objects, and a few whose values have another form than the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from headrace_data.records import RecordChecker
from headrace_data.spec import SpecInvalid, load_pipeline

from headrace_client.drafting.errors import DraftImpossible
from headrace_client.drafting.observing import observe
from headrace_client.drafting.roles import Roles, choose_roles
from headrace_client.drafting.selecting import selection_for
from headrace_client.drafting.writing import SCHEMA_FILE, pipeline_yaml

__all__ = ["SCHEMA_FILE", "Draft", "DraftImpossible", "draft_pipeline"]

_SHOWN_BYTES = 24


@dataclass(frozen=True)
class Draft:
    """A pipeline drafted from a sample."""

    text: str
    """The YAML document."""
    roles: Roles
    """What each field is for, and why."""
    records: int
    """Size of the sample, faulty records included."""
    rejected: Mapping[str, int]
    """Records of the sample that the pipeline would reject, by rule."""
    selects: bool = False
    """Whether the records become rows by a SELECT."""


def draft_pipeline(topic: str, values: Sequence[bytes | None], label: str | None = None) -> Draft:
    """Return a pipeline for a topic of which these are some records; `label` names the field to predict.

    Raises DraftImpossible when no record is a JSON object, or the fields do not make a pipeline.
    """
    records = [record for value in values if (record := _decoded(value)) is not None]
    if not records:
        raise DraftImpossible(f"expected JSON objects in topic '{topic}', got {_described(values)}")
    selection = selection_for(records, label)
    if selection is not None:
        records, label = selection.rows, selection.label
    roles = choose_roles(observe(records), label)
    told = f"{len(values)} record{'' if len(values) == 1 else 's'} of topic {topic}"
    text = pipeline_yaml(_name_of(topic), topic, roles, told, selection)
    try:
        stream = load_pipeline(text).stream
    except SpecInvalid as error:
        # The topic's name is the caller's, and a thousand fields may make a document too large.
        raise DraftImpossible(f"no pipeline can be made of topic '{topic}': {error}") from error
    places = range(len(values))
    checked = RecordChecker(stream).check(values, [0] * len(values), places)
    return Draft(
        text, roles, len(values), dict(Counter(rejection.rule for rejection in checked.rejected)), selection is not None
    )


def _decoded(value: bytes | None) -> dict[str, Any] | None:
    try:
        record = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def _described(values: Sequence[bytes | None]) -> str:
    first = next((value for value in values if value), None)
    if first is None:
        return "no record, or records without a value"
    begins = "it begins like a record with a schema registry, and " if first[0] == 0 else ""
    hint = f"; {begins}records in Avro, Protobuf or CSV need a pipeline that is written by hand, with stream.format"
    return f"{first[:_SHOWN_BYTES]!r}{'…' if len(first) > _SHOWN_BYTES else ''}{hint}"


def _name_of(topic: str) -> str:
    """Return a pipeline's name, a DNS label, for a topic."""
    name = re.sub(r"[^a-z0-9]+", "-", topic.lower()).strip("-")[:63].rstrip("-")
    return name or "pipeline"
