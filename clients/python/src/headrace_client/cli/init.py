"""`init`: a topic's records or a file's rows in, a pipeline's YAML out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace_client.cli.files import EncodingOption, FormatOption, require_new, write_text
from headrace_client.cli.output import note, say

if TYPE_CHECKING:
    from headrace_client.drafting import Draft
    from headrace_client.drafting.roles import Roles


OF_TOPIC: Final = 1_000
OF_FILE: Final = 10_000
"""How many records of a topic, and rows of a file, are looked at."""


TopicOption = Annotated[
    str, typer.Option("--topic", "-t", metavar="TOPIC", help="The producers' topic; its records are only read.")
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        exists=True,
        help="A file of rows in place of records: CSV, JSON Lines, Parquet, Arrow; or a folder of pictures or sounds, "
        "in folders by class. --topic is what will be.",
    ),
]
SampleOption = Annotated[
    int | None,
    typer.Option(
        "--sample",
        "-n",
        min=1,
        max=100_000,
        help="Newest records to look at, or rows all over a file; default: 1000, of a file 10000.",
    ),
]


def init(
    topic: TopicOption = "",
    file: FromOption = None,
    sample: SampleOption = None,
    file_format: FormatOption = "",
    encoding: EncodingOption = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; standard output without it.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="FIELD", help="Field to predict; guessed without it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Draft a pipeline from a topic's records, or a file's rows: types, gaps, categories, label, and why."""
    require_new(output, force=force)
    if not topic and file is None:
        raise typer.BadParameter("give one of --topic and --from", param_hint="--topic")
    if file is None:
        draft = _of_topic(topic, sample or OF_TOPIC, label)
    else:
        draft = _of_file(file, file_format, encoding, topic, sample or OF_FILE, label)
    if output is None:
        typer.echo(draft.text, nl=False)
        _tell(draft)
    else:
        _write(output, draft.text)
        _tell(draft)
        say(f"wrote {output}: read its comments, then `headrace apply {output}{_rest(draft, file)}`")


# The other commands start faster without what is imported here.
def _of_topic(topic: str, count: int, label: str | None) -> Draft:
    from headrace_client.drafting import draft_pipeline
    from headrace_client.drafting.media import MediaRecord, draft_of_messages
    from headrace_client.sampling import newest, newest_records
    from headrace_client.selecting import FILES

    values = newest_records(topic, count)
    if not any(value and value.startswith(FILES) for value in values[:1]):
        return draft_pipeline(topic, values, label)
    # What stands beside files says what they are.
    records = [
        MediaRecord(each.value, each.key, [(name, value or b"") for name, value in each.headers])
        for each in newest(topic, count, "init")
        if each.value and each.value.startswith(FILES)
    ]
    return draft_of_messages(topic, records, label)


def _of_file(file: Path, file_format: str, encoding: str, topic: str, count: int, label: str | None) -> Draft:
    from headrace_client.backfilling import format_of
    from headrace_client.class_folders import files_in, opened
    from headrace_client.drafting import draft_of_file, name_of
    from headrace_client.drafting.media import draft_of_folder
    from headrace_client.row_files import sample

    if file.is_dir():
        found = files_in(file)
        return draft_of_folder(topic or name_of(file.resolve().name), file.name, found[:count], len(found), opened)
    sampled = sample(file, file_format or format_of(file), encoding, count)
    return draft_of_file(topic or name_of(file.stem), file.name, sampled, label)


def _rest(draft: Draft, file: Path | None) -> str:
    """Return what follows of a file behind the command that puts the draft in force."""
    return "" if file is None else f" --create-topic` and `headrace push {draft.name} {file}"


def _write(output: Path, text: str) -> None:
    from headrace_data.spec import json_schema

    from headrace_client.drafting import SCHEMA_FILE

    write_text(output, text)
    # The schema of this version: whoever edits the file gets its keys completed, offline too.
    write_text(output.parent / SCHEMA_FILE, json_schema())


def _tell(draft: Draft) -> None:
    from headrace_data.twins import near_twins, twins_text

    from headrace_client.drafting.roles import are_classes_as_floats, repeated

    roles = draft.roles
    names = [f"label '{roles.label.field.name}' ({roles.task}, {roles.label.why})"]
    names += [f"id '{roles.id.field.name}'"] if roles.id else []
    count = len(roles.features)
    note(f"{draft.records} records: {', '.join(names)}, {count} feature{'' if count == 1 else 's'}")
    if roles.id is None:
        note("no field names a record: one that was sent twice is kept twice")
    elif roles.id.field.repeated:
        note(f"id '{roles.id.field.name}': {repeated(roles.id.field)}, and are dropped as duplicates")
    for placed in (roles.label, *roles.features):
        for group in near_twins(placed.field.texts):
            told = (
                f"{placed.role} '{placed.field.name}' has values that differ by blanks, case or hidden characters only"
            )
            note(f"{told}: {twins_text(group)}")
    if roles.label.why.startswith("guessed"):
        note("the label is a guess: --label FIELD names another")
    if roles.label.field.distinct == 1:
        note(f"label '{roles.label.field.name}' has one value in the sample: a model needs at least two")
    if roles.task == "regression" and are_classes_as_floats(roles.label.field):
        name = roles.label.field.name
        note(f"label '{name}' holds few whole numbers, sent as floats: a regression; for classes send integers")
    left_out = (f"left out: '{each.name}': {each.reason}" for each in roles.left_out)
    for told in (*draft.doubts, *_personal(roles), *left_out):
        note(told)
    if draft.rejected:
        rules = ", ".join(f"{rule} {count}" for rule, count in sorted(draft.rejected.items()))
        note(f"{sum(draft.rejected.values())} of them would be rejected: {rules}")


def _personal(roles: Roles) -> Iterator[str]:
    from headrace_client.drafting.personal import MOST_FOUND, personal_fields, told

    for field, treatment in personal_fields(roles)[:MOST_FOUND]:
        yield f"personal data in '{field.name}': {told(field.personal)}; stream.personal may {treatment} it"
