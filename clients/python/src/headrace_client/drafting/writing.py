"""A pipeline's YAML as text: every line that was guessed has a comment that says from what."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from headrace_data.detectors import PERSONAL, masked_text
from headrace_data.twins import near_twins, twins_text

from headrace_client.advising import IMBALANCED, advise, section
from headrace_client.drafting.known import ONEHOT, known_of
from headrace_client.drafting.moments import DAY_S, WEEK_S, unit_of
from headrace_client.drafting.observing import Observed
from headrace_client.drafting.personal import proposal
from headrace_client.drafting.roles import Placed, Roles, are_classes_as_floats
from headrace_client.drafting.selecting import Selection, column_text
from headrace_client.yaml_texts import flow, scalar

SCHEMA_FILE: Final = "pipeline.schema.json"
"""File beside the YAML that tells editors what may stand in it."""
_SHOWN_VALUES: Final = 6
_SHOWN_LEFT_OUT: Final = 50
_LONGEST_TEXT: Final = 24
_LEAST_ROWS: Final = 100
"""Rows below which a pause cuts no dataset; of a smaller sample half, so that a first try ends in a model."""
_COMMENT: Final = 110
"""Letters of a line of comment."""
_RARE: Final = 0.1
"""Share of the rarer of two classes up to which versions are compared by PR-AUC."""


@dataclass(frozen=True)
class Sent:
    """How producers send records."""

    told: str
    """For a comment."""
    lines: Sequence[str]
    """The document's lines about `stream.format`."""


JSON: Final = Sent("one JSON object per record", ("  format: json",))


JSON_LINES: Final = Sent("many JSON objects per message, each on a line", ("  format: {kind: json, lines: true}",))


def csv_format(columns: Sequence[str], delimiter: str) -> Sent:
    """Return how records are sent that are like the rows of a CSV file with these columns."""
    listed = ", ".join(scalar(name) for name in columns)
    lines = [
        "  format:",
        "    kind: csv",
        f"    columns: [{listed}]",
        *([f"    delimiter: {scalar(delimiter)}"] if delimiter != "," else []),
    ]
    return Sent("one row of CSV per record, as in the file, without its header", lines)


def pipeline_yaml(
    name: str, topic: str, roles: Roles, told: str, selection: Selection | None = None, sent: Sent = JSON
) -> str:
    """Return the document; `told` says of which sample it was drafted, in one line."""
    sections = (_head(name, told), _stream(topic, roles, selection, sent), _prepare(roles), _train(roles), _rest(roles))
    return "\n".join(line for section in sections for line in section) + "\n"


def comment_text(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Return a text that came from records so that it can stand in a comment: printable, and not too long."""
    safe = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return safe if len(safe) <= longest else f"{safe[:longest]}…"


def _head(name: str, told: str) -> list[str]:
    return [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        f"# Drafted by `headrace init` from {told}.",
        "# What is guessed says so: read it, change it, then `headrace validate` and `headrace apply` this file.",
        "apiVersion: headrace/v1",
        "kind: Pipeline",
        f"metadata: {{name: {scalar(name)}}}",
        "",
    ]


def _stream(topic: str, roles: Roles, selection: Selection | None, sent: Sent) -> Iterator[str]:
    yield "stream:"
    yield f"  topic: {scalar(topic)} # the producers' topic; {sent.told}"
    yield from sent.lines
    if roles.id:
        yield f"  key: {scalar(roles.id.field.name)} # duplicates are found by it"
    yield from proposal(roles)
    if selection is not None:
        yield from _select(roles, selection)
    yield "  # A record without a field that is not nullable, or of another type there, is rejected with the reason."
    yield "  # What was seen is no limit yet: give a number a `range: [lowest, highest]`, and rows outside are dropped."
    yield "  schema:"
    for placed in roles.placed:
        yield f"    - {{{', '.join(_field(placed))}}}{_remark('; '.join(_field_remarks(placed, roles)))}"
    for field in roles.left_out[:_SHOWN_LEFT_OUT]:
        yield f"    # left out: {comment_text(field.name, 64)}: {field.reason}"
    if len(roles.left_out) > _SHOWN_LEFT_OUT:
        yield f"    # left out: {len(roles.left_out) - _SHOWN_LEFT_OUT} more"
    yield ""


def _select(roles: Roles, selection: Selection) -> Iterator[str]:
    """Yield the SELECT, a line for each field of the schema."""
    yield "  # How a record becomes the fields below: SQL as it stands between SELECT and FROM. A path by itself keeps"
    yield "  # its value; to everything else it is a text. What TRY_CAST cannot read is missing, and counted."
    columns = [selection.columns[placed.field.name] for placed in roles.placed]
    lines: list[str] = []
    for at, column in enumerate(columns):
        comma = "," if at + 1 < len(columns) else ""
        remarks = [comment_text(each, _COMMENT) for each in (column.told, masked_text(column.doubt, PERSONAL)) if each]
        told = f" -- {'; '.join(remarks)}" if remarks else ""
        lines.append(f"{column.sql} AS {column_text(column.name)}{comma}{told}")
    if all(line.isprintable() for line in lines):
        yield "  select: |"
        yield from (f"    {line}" for line in lines)
    else:
        yield f"  select: {scalar(chr(10).join(lines))}"


def _field(placed: Placed) -> Iterator[str]:
    field = placed.field
    yield f"name: {scalar(field.name)}"
    yield f"type: {field.type}"
    if field.shape:
        yield f"shape: {list(field.shape)}"
    yield f"role: {placed.role}"
    if field.nullable and placed.role == "feature":
        yield "nullable: true"


def _field_remarks(placed: Placed, roles: Roles) -> Iterator[str]:
    field = placed.field
    if placed.why:
        yield placed.why
    if placed.role in ("feature", "label"):
        yield _seen(field)
    if placed.role == "feature" and roles.id is None and field.type == "int64" and field.unique:
        yield "another in each record: if it names them, its role is id"
    if placed.role in ("feature", "label"):
        for group in near_twins(field.texts):
            twins = masked_text(twins_text(group), PERSONAL)
            yield f"differ by blanks, case or hidden characters only: {comment_text(twins, 120)}"
    if field.missing:
        kept = field.nullable and placed.role == "feature"
        yield f"missing in {field.missing} of {field.records}{'' if kept else ', which are rejected'}"
    if field.odd:
        yield f"{field.odd} of another form, rejected"


def _seen(field: Observed) -> str:
    if field.type != "string" and (field.values is None or len(field.values) > _SHOWN_VALUES):
        return f"{_number(field.low)} to {_number(field.high)}"
    if field.values is None:
        return "many different values"
    shown = ", ".join(f"{_value(value)} {count}" for value, count in islice(field.values.items(), _SHOWN_VALUES))
    more = len(field.values) - _SHOWN_VALUES
    return f"{shown} and {more} more" if more > 0 else shown


def _value(value: str | float) -> str:
    if isinstance(value, bool):
        return json.dumps(value)
    # A document is kept and shown: what is personal does not stand in it.
    return comment_text(masked_text(value, PERSONAL)) if isinstance(value, str) else _number(value)


def _number(value: float | None) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _remark(text: str) -> str:
    return f" # {text}" if text else ""


def _prepare(roles: Roles) -> Iterator[str]:
    missing = any(placed.field.nullable for placed in roles.features)
    yield "prepare: # a record never changes sides of the split; everything is fitted on the training rows"
    policy = "keep" if missing else "drop"
    duplicates = "duplicates: drop, " if roles.id else ""
    remarks = ["missing values are filled below"] if missing else []
    remarks += [] if roles.id else ["no field names a record: one that was sent twice is kept twice"]
    yield f"  clean: {{missing: {policy}, {duplicates}outOfRange: drop}}{_remark('; '.join(remarks))}"
    yield "  transform: # part of the model: clients send values as producers do"
    if missing:
        yield "    # impute: mean, median, mostFrequent, or {constant: 0}; for a text {constant: unknown}"
    for placed in roles.features:
        remark = _remark(_transform_remark(placed.field))
        yield f"    {scalar(placed.field.name)}: {{{', '.join(_transform(placed.field))}}}{remark}"
    group = f", group: {scalar(roles.split_by)}" if roles.split_by else ""
    why = "no field names a record: rows are divided by this one's values" if roles.split_by else ""
    yield f"  split: {{train: 0.7, validation: 0.15, test: 0.15{group}}}{_remark(why)}"
    yield "  # A dataset holds the clean rows since the last one, and is cut at whichever comes first. afterIdle is"
    yield "  # short for a first try: every pause cuts a dataset, unless fewer than minRecords wait. For a stream that"
    yield "  # goes on, take it out, or give it the longest pause that your producers make; few rows make a poor model."
    least = max(1, min(_LEAST_ROWS, roles.label.field.records // 2))
    yield f"  freeze: {{afterRecords: 10000, afterIdle: 5s, minRecords: {least}}}"
    yield "  window: all  # each dataset has the rows of those before; new, {last: 30d} or {rows: 100000} are others"
    yield "  hold: {}  # what a broken producer sends is held back until somebody decides: headrace hold"
    yield ""


def _transform(field: Observed) -> Iterator[str]:
    if field.type == "string":
        if field.nullable:
            yield "impute: mostFrequent"
        limited = f"{{kind: onehot, maxCategories: {ONEHOT}}}"
        yield f"encode: {'onehot' if field.distinct <= ONEHOT else limited}"
        return
    if field.nullable:
        yield f"impute: {'mostFrequent' if field.type == 'bool' else 'median'}"
    if unit := unit_of(field):
        yield f"encode: {{kind: cyclic, periods: [{DAY_S * unit[0]}, {WEEK_S * unit[0]}]}}"
        return
    yield f"scale: {'none' if field.type == 'bool' else 'log' if field.skewed else 'standard'}"


def _transform_remark(field: Observed) -> str:
    if field.type == "string" and field.distinct > ONEHOT:
        return f"{field.distinct} values: the {ONEHOT} most frequent have an input each, all others one together"
    if unit := unit_of(field):
        return f"a moment, in {unit[1]} since 1970, which never comes again: its hour of the day and day of the week do"
    return "most are small and some very large: their logarithm tells more" if field.skewed else ""


def _train(roles: Roles) -> Iterator[str]:
    label = roles.label.field
    yield "train:"
    yield f"  task: {roles.task} # {_task_reason(roles)}"
    yield from _advised(roles)
    yield "  seed: 7"
    counts = list(label.values.values()) if roles.task == "classification" and label.values else []
    if len(counts) > 1 and counts[0] > IMBALANCED * counts[-1]:
        yield f"  classWeights: balanced # the rarest class came {counts[-1]} times, the commonest {counts[0]} times"
    if rare := _rare(roles):
        yield f"  positive: {_plain(rare[0])} # what is looked for: the rarer of the two"
    yield ""


def _advised(roles: Roles) -> Iterator[str]:
    """Yield what is advised for as many rows as the sample has: networks, which every trainer can train."""
    rows = roles.label.field.records
    known = known_of(roles, rows)
    settings = advise(replace(known, family="cnn" if known.image else "mlp"))
    plain = section(settings)
    yield f"  # For {rows:,} rows; `headrace advise` says more, for the rows that a pipeline has by then."
    for key in ("network", "optimizer", "epochs", "batchSize", "earlyStop"):
        told = [
            f"{each.path.rpartition('.')[2]}: {each.reason}"
            for each in settings
            if each.path.partition(".")[0] == key and each.path != "network.kind"
        ]
        yield from (f"  # {line}" for line in textwrap.wrap("; ".join(told), _COMMENT))
        yield f"  {key}: {flow(plain[key])}"
    if known.image:
        return
    yield "  compareWith: trees # a version's page tells what trees of default size score on the same rows"
    if next(iter(advise(known))).value == "trees":
        yield "  # For such a table trees are advised: network: {kind: trees}, where the trainer has the extra `trees`."


def _rare(roles: Roles) -> tuple[str | int | float, float] | None:
    """Return the rarer of a label's two values with its share, where that is small; None else."""
    label = roles.label.field
    if roles.task != "classification" or label.values is None or len(label.values) != 2:
        return None
    (_, often), (value, seldom) = label.values.items()
    share = seldom / (often + seldom)
    return (value, share) if share <= _RARE else None


def _plain(value: str | float) -> str:
    return scalar(value) if isinstance(value, str) else json.dumps(value)


def _task_reason(roles: Roles) -> str:
    name = comment_text(roles.label.field.name)
    if roles.task == "classification":
        return f"{name} is one of a few values"
    if are_classes_as_floats(roles.label.field):
        return f"{name} holds few whole numbers, sent as floats: for classes send 1 instead of 1.0, or texts"
    return f"{name} is an amount: predictions come close to it"


def _rest(roles: Roles) -> list[str]:
    rare = _rare(roles)
    gates = (
        [
            f"  # {rare[1]:.1%} of the records are {_value(rare[0])}: who never answers that has an accuracy of",
            f"  # {1 - rare[1]:.1%}, so versions are compared by PR-AUC, where that would have {rare[1]:.3f}.",
            "  gates: {measure: pr_auc} # recall, f1 and others may be held to a limit too: {limits: {recall: 0.8}}",
        ]
        if rare
        else []
    )
    return [
        "compress:",
        "  # Of the variants that pass, the one fastest for a single row is served; at equal speed the smaller.",
        "  variants: [{kind: int8-dynamic}] # fp32 is always there",
        *gates,
        "",
        "serve: {cache: auto}",
    ]
