"""`validate` and `apply`: a pipeline's YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headrace_client.addresses import find_addresses
from headrace_client.applying import consequence
from headrace_client.cli.documents import read_document
from headrace_client.cli.group import FAILED
from headrace_client.cli.output import JsonOption, error_line, note, print_json, say
from headrace_client.registry import RegistryClient
from headrace_client.views import pipeline_view, short_id

if TYPE_CHECKING:
    from headrace_data.spec import Pipeline

LEAST_MESSAGE_BYTES: Final = 1024 * 1024
"""What ingestion takes for a record, unless it is told otherwise."""
PipelineFile = Annotated[str, typer.Argument(metavar="FILE", help="Pipeline YAML; - reads standard input.")]


def validate(file: PipelineFile, as_json: JsonOption = False) -> None:
    """Check a pipeline file and name every problem with its line and path."""
    pipeline, problems = _check(read_document(file))
    if as_json:
        warnings = _warnings(pipeline) if pipeline else []
        print_json(
            {
                "file": file,
                "valid": pipeline is not None,
                "pipeline": pipeline.name if pipeline else None,
                "spec_digest": pipeline.digest if pipeline else None,
                "problems": problems,
            }
            | ({"warnings": warnings} if warnings else {})
        )
    elif pipeline is not None:
        say(f"{file}: pipeline '{pipeline.name}' is valid")
        for warning in _warnings(pipeline):
            note(warning)
    if pipeline is None:
        _report(file, problems)
        raise typer.Exit(FAILED)


def apply(
    file: PipelineFile,
    create_topic: Annotated[
        bool, typer.Option("--create-topic", help="Create the producers' topic when it does not exist.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would follow; change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a pipeline in force: its topics are created and every service learns of it."""
    document = read_document(file)
    pipeline, problems = _check(document)
    if pipeline is None:
        _report(file, problems)
        raise typer.Exit(FAILED)
    with RegistryClient(find_addresses().registry) as registry:
        before = [] if as_json else registry.pipelines(pipeline.name)
        answer = registry.apply(document, create_topic=create_topic, dry_run=dry_run)
        follows = consequence(registry, before[0], answer.applied) if before and answer.changed else ""
    view = pipeline_view(answer.applied)
    if as_json:
        del view["spec"]
        print_json(view | {"changed": answer.changed})
    else:
        what = "is in force" if answer.changed else "was in force already; nothing changed"
        if dry_run:
            what = "would be in force; nothing was changed" if answer.changed else "is in force already"
        partitions = f"{view['partitions']} partition{'s' if view['partitions'] != 1 else ''}"
        say(f"pipeline '{view['pipeline']}' {what} (spec {short_id(view['spec_digest'])})")
        say(f"it reads topic '{view['topic']}' ({partitions}) and serves model '{view['model']}'")
        if follows:
            say(follows)
        if 0 < answer.max_message_bytes < LEAST_MESSAGE_BYTES:
            note(
                f"topic '{view['topic']}' takes messages of at most {answer.max_message_bytes:,} bytes "
                "(max.message.bytes): producers of larger records are refused"
            )


def _warnings(pipeline: Pipeline) -> list[str]:
    """Return what is allowed in a pipeline and probably not meant."""
    names = [] if pipeline.stream.select is not None else [field.name for field in pipeline.stream.fields]
    dotted = [name for name in names if "." in name]
    return [
        f"stream.schema: '{name}' is one key of a record, dot included: stream.select reads inside objects"
        for name in dotted
    ]


def _check(document: bytes) -> tuple[Pipeline | None, list[dict[str, Any]]]:
    # Imported here: the other commands need no spec and start faster without it.
    from headrace_data.spec import SpecInvalid, load_pipeline

    try:
        return load_pipeline(document), []
    except SpecInvalid as error:
        return None, [
            {"line": problem.line, "path": problem.path, "message": problem.message} for problem in error.problems
        ]


def _report(file: str, problems: list[dict[str, Any]]) -> None:
    for problem in problems:
        path = f" {problem['path']}:" if problem["path"] else ""
        error_line(f"{file}:{problem['line']}:{path} {problem['message']}")
