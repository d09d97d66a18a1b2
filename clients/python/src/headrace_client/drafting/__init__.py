"""From a sample of records, or of a file's rows, to a pipeline's YAML: pure, records in, text out.

A draft loads without problems, and its schema takes the records it was made from, but for those that it names as
faulty: records that are no JSON objects, and a few whose values have another form than the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from headrace_data.detectors import PERSONAL, masked_text
from headrace_data.file_samples import Sample
from headrace_data.formats.envelopes import DELETED
from headrace_data.formats.json_lines import lines_of
from headrace_data.records import RecordChecker
from headrace_data.spec import SpecInvalid, Stream, load_pipeline

from headrace_client.drafting.enveloped import opened
from headrace_client.drafting.errors import DraftImpossible, NothingDivides
from headrace_client.drafting.observing import Observed, observe
from headrace_client.drafting.roles import Roles, choose_roles
from headrace_client.drafting.selecting import Selection, selection_for, with_digest
from headrace_client.drafting.writing import (
    JSON,
    JSON_LINES,
    SCHEMA_FILE,
    Sent,
    comment_text,
    csv_format,
    pipeline_yaml,
)
from headrace_client.written_numbers import PLAIN

__all__ = ["SCHEMA_FILE", "Draft", "DraftImpossible", "draft_of_file", "draft_pipeline", "name_of"]

_SHOWN_BYTES = 24
_YEAR = re.compile(r"(19|20)\d\d")
"""A number that may well name a column."""


@dataclass(frozen=True)
class Draft:
    """A pipeline drafted from a sample."""

    name: str
    """The pipeline's name."""
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
    doubts: Sequence[str] = ()
    """What may be meant otherwise than the draft has it."""


def draft_pipeline(topic: str, values: Sequence[bytes | None], label: str | None = None) -> Draft:
    """Return a pipeline for a topic of which these are some records; `label` names the field to predict.

    Raises DraftImpossible when no record is a JSON object, or the fields do not make a pipeline.
    """
    records, sent = _objects(values), JSON
    if 2 * len(records) < len(values) and len(_objects(_lines(values))) > len(records):
        values, sent = _lines(values), JSON_LINES
        records = _objects(values)
    if not records:
        raise DraftImpossible(f"expected JSON objects in topic '{topic}', got {_described(values)}")
    told = f"{len(values)} record{'' if len(values) == 1 else 's'} of topic {topic}"
    if found := opened(records):
        envelope, rows = found
        sent = Sent(f"{sent.told}, in an envelope", (*sent.lines, f"  envelope: {envelope}"))
        return _drafted(topic, rows, label, told, sent, lambda _: values)
    return _drafted(topic, records, label, told, sent, lambda _: values)


def draft_of_file(topic: str, name: str, sample: Sample, label: str | None = None) -> Draft:
    """Return a pipeline for records such as the rows of a file, `name`; `label` names the field to predict.

    Raises DraftImpossible when the columns do not make a pipeline.
    """
    count = f"all {sample.seen}" if sample.whole else f"{len(sample.records)} of {sample.seen}"
    sent = csv_format(sample.columns, sample.delimiter) if sample.columns else JSON
    told = f"{count} rows of {comment_text(name, 100)}"
    draft = _drafted(topic, sample.records, label, told, sent, sample.as_sent, sample.comma)
    odd = {"columns": sample.odd} if sample.odd else {}
    left_out = [Observed(each, draft.records, None, reason=why) for each, why in sample.left_out.items()]
    roles = replace(draft.roles, left_out=(*draft.roles.left_out, *left_out))
    doubts = [*_names_in_doubt(sample), *draft.doubts]
    rejected = {**draft.rejected, **odd}
    return replace(draft, roles=roles, doubts=doubts, records=draft.records + sample.odd, rejected=rejected)


def _drafted(
    topic: str,
    records: Sequence[Mapping[str, Any]],
    label: str | None,
    told: str,
    sent: Sent,
    values_for: Callable[[Stream], Sequence[bytes | None]],
    comma: bool = False,
) -> Draft:
    """Return a draft of records; `values_for` returns what a stream gets of them, each as JSON."""
    selection = selection_for(records, label, comma=comma)
    if selection is not None:
        records, label = selection.rows, selection.label
    try:
        roles = choose_roles(observe(records), label)
    except NothingDivides:
        selection, roles = _divided(records, label, selection)
    text = pipeline_yaml(name_of(topic), topic, roles, told, selection, sent)
    try:
        stream = load_pipeline(text).stream
    except SpecInvalid as error:
        # The topic's name is the caller's, and a thousand fields may make a document too large.
        raise DraftImpossible(f"no pipeline can be made of topic '{topic}': {error}") from error
    values = values_for(stream)
    places = range(len(values))
    read = stream.in_json.model_copy(update={"envelope": stream.envelope})
    checked = RecordChecker(read).check(values, [0] * len(values), places)
    # A deletion leaves no row, and is no fault.
    rejected = dict(Counter(each.rule for each in checked.rejected if each.rule != DELETED))
    return Draft(name_of(topic), text, roles, len(values), rejected, selection is not None, _doubts(roles, selection))


def _doubts(roles: Roles, selection: Selection | None) -> list[str]:
    columns = [selection.columns[placed.field.name] for placed in roles.placed] if selection else []
    return [f"'{each.name}': {masked_text(each.doubt, PERSONAL)}" for each in columns if each.doubt]


def _names_in_doubt(sample: Sample) -> list[str]:
    """Return what makes one doubt that the first line of a table names its columns: a number that is one of many."""
    odd = [
        name
        for name in sample.columns
        if PLAIN.fullmatch(name) and isinstance(sample.records[0].get(name), int | float) and not _YEAR.fullmatch(name)
    ]
    if not odd:
        return []
    shown = ", ".join(f"'{name}'" for name in sample.columns[:4])
    return [f"the first line is taken for the names of the columns, {shown}: if it is a row, put names before it"]


def _divided(
    records: Sequence[Mapping[str, Any]], label: str | None, selection: Selection | None
) -> tuple[Selection, Roles]:
    """Return a SELECT that gives rows a digest to be divided by, with the roles of its fields."""
    selection = selection or selection_for(records, label, always=True)
    if selection is None:
        raise NothingDivides("expected fields to divide the rows by into training and test, got none")
    of_all = with_digest(selection)
    chosen = choose_roles(observe(of_all.rows), label, list(of_all.columns)[-1]).label.field.name
    divided = with_digest(replace(selection, label=chosen))
    return divided, choose_roles(observe(divided.rows), label, list(divided.columns)[-1])


def _objects(values: Sequence[bytes | None]) -> list[dict[str, Any]]:
    return [record for value in values if (record := _decoded(value)) is not None]


def _lines(values: Sequence[bytes | None]) -> list[bytes | None]:
    return [line for value in values for _, line in lines_of(value)]


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


def name_of(topic: str) -> str:
    """Return a pipeline's name, a DNS label, for a topic or a file."""
    name = re.sub(r"[^a-z0-9]+", "-", topic.lower()).strip("-")[:63].rstrip("-")
    return name or "pipeline"
