"""`dead`: records that were rejected, why, and sending them once more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from rich.console import RenderableType

from headrace_client.addresses import find_addresses
from headrace_client.cli.durations import seconds
from headrace_client.cli.files import require_new, write_text
from headrace_client.cli.group import FAILED
from headrace_client.cli.output import (
    JsonOption,
    bytes_text,
    coloured,
    note,
    plain,
    print_json,
    print_parts,
    say,
    table,
)
from headrace_client.errors import NotFound
from headrace_client.ingestion import IngestionClient
from headrace_client.letters import group_view, letter_view, outcome_word, replay_view
from headrace_client.proposing import Group, Proposal, grouped, proposal, together
from headrace_client.registry import RegistryClient
from headrace_client.views import pipeline_view
from headrace_client.yaml_texts import document

KEYS = ("stage", "rule", "field", "id")

PipelineArgument = Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")]
WhereOption = Annotated[
    str,
    typer.Option(
        "--where", metavar="KEY=VALUE,…", help="Only letters with this stage, rule, field or id, such as rule=json."
    ),
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=0, help="Most letters to return; 0 for all.")]
TimeoutOption = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long the call may take.")]

app = typer.Typer(help="Records that were rejected: list, show, replay.", no_args_is_help=True)


@app.command("list")
def list_letters(
    pipeline: PipelineArgument,
    where: WhereOption = "",
    limit: LimitOption = 0,
    timeout: TimeoutOption = "5m",
    as_json: JsonOption = False,
) -> None:
    """List rejected records with the rule they broke, oldest first within each partition."""
    with IngestionClient(find_addresses().ingestion, timeout_s=seconds(timeout)) as client:
        found, counts = client.counted_dead_letters(pipeline, _filter(where), limit=limit)
    if as_json:
        print_json([letter_view(letter) for letter in found])
    elif not found:
        note(f"no dead letters of '{pipeline}'{_such(where)}")
    else:
        rows = [
            [letter.id, plain(letter.stage), plain(letter.rule), plain(letter.reason), str(letter.replays)]
            for letter in found
        ]
        print_parts([table(["=id", "=stage", "=rule", "reason", ">replays"], rows), _by_rule(found, counts)])


@app.command("groups")
def groups(
    pipeline: PipelineArgument,
    where: WhereOption = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most letters to look at.")] = 10_000,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the document with all of these changes."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    timeout: TimeoutOption = "5m",
    as_json: JsonOption = False,
) -> None:
    """Tell rejected records by rule and field, with an example, and what in the document would accept them."""
    require_new(output, force=force)
    addresses = find_addresses()
    with IngestionClient(addresses.ingestion, timeout_s=seconds(timeout)) as client:
        letters, counts = client.counted_dead_letters(pipeline, _filter(where), limit=limit)
    with RegistryClient(addresses.registry) as registry:
        spec = pipeline_view(registry.pipeline(pipeline))["spec"] if letters else {}
    found = [(group, proposal(group, spec)) for group in grouped(letters)]
    if output is not None:
        _write(output, pipeline, together([group for group, _ in found], spec))
    if as_json:
        print_json([group_view(group, proposed) for group, proposed in found])
    elif not found:
        note(f"no dead letters of '{pipeline}'{_such(where)}")
    else:
        for group, proposed in found:
            _say_group(group, proposed)
        say(_by_rule(letters, counts))
        if any(proposed for _, proposed in found):
            again = f"`headrace dead replay {pipeline}` sends them through the pipeline once more"
            if output is None:
                note(f"--output FILE writes the document with all of that; when it is applied, {again}")
            else:
                note(f"wrote {output}: read it, then `headrace apply {output}`, and {again}")


@app.command("show")
def show(
    pipeline: PipelineArgument,
    where: WhereOption = "",
    limit: LimitOption = 0,
    timeout: TimeoutOption = "5m",
    as_json: JsonOption = False,
) -> None:
    """Show rejected records in full: reason, origin, and the bytes that the producer sent."""
    found = _letters(pipeline, where, limit, timeout, in_full=True)
    if not found:
        raise NotFound(f"there is no dead letter of '{pipeline}'{_such(where)}")
    if as_json:
        print_json([letter_view(letter) for letter in found])
        return
    for number, letter in enumerate(found):
        if number:
            say("")
        _say_letter(letter)


@app.command("replay")
def replay(
    pipeline: PipelineArgument,
    where: WhereOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would become of them.")] = False,
    timeout: TimeoutOption = "5m",
    as_json: JsonOption = False,
) -> None:
    """Send rejected records through the pipeline as it is now, each once; ends with 1 when any is rejected again."""
    wanted = _filter(where)
    with IngestionClient(find_addresses().ingestion, timeout_s=seconds(timeout)) as client:
        answers = list(client.replay(pipeline, wanted, dry_run=dry_run))
    if as_json:
        print_json([replay_view(answer) for answer in answers])
    elif not answers:
        note(f"no dead letters of '{pipeline}'{_such(where)}")
    else:
        print_parts(_outcomes(answers, dry_run=dry_run))
    if any(answer.outcome == messages.REPLAY_OUTCOME_REJECTED for answer in answers):
        raise typer.Exit(FAILED)


def _write(output: Path, pipeline: str, spec: dict[str, Any] | None) -> None:
    if spec is None:
        raise NotFound(f"no change of '{pipeline}' would plainly accept its dead letters: {output} is not written")
    write_text(output, f"# What was in force, with what accepts the records that it rejected.\n{document(spec)}")


def _filter(where: str) -> messages.DeadLetterFilter:
    wanted: dict[str, str] = {}
    for part in filter(None, where.split(",")):
        key, _, value = part.partition("=")
        if key not in KEYS or not value or key in wanted:
            expected = ", ".join(f"{name}=…" for name in KEYS)
            raise typer.BadParameter(f"expected {expected}, each at most once, got '{part}'", param_hint="--where")
        wanted[key] = value
    return messages.DeadLetterFilter(**wanted)


def _letters(
    pipeline: str, where: str, limit: int, timeout: str, *, in_full: bool = False
) -> list[messages.DeadLetter]:
    """Return the letters; in full means with the producers' own bytes, for which each is asked for by its id."""
    wanted = _filter(where)
    with IngestionClient(find_addresses().ingestion, timeout_s=seconds(timeout)) as client:
        found = list(client.dead_letters(pipeline, wanted, limit=limit))
        if not in_full or wanted.id:
            return found
        by_id = (messages.DeadLetterFilter(id=letter.id) for letter in found)
        return [letter for one in by_id for letter in client.dead_letters(pipeline, one)]


def _such(where: str) -> str:
    return f" with {where}" if where else ""


def _by_rule(found: list[messages.DeadLetter], counts: dict[str, int] | None) -> str:
    """Return how many letters there are; those shown are counted where ingestion, of before, counts none."""
    rules = Counter(letter.rule for letter in found) if counts is None else counts
    total = sum(rules.values())
    shown = f"{total} in all" if total == len(found) else f"the first {len(found)} of {total}"
    if counts is None:
        shown = f"{len(found)} shown"
    return plain(f"{shown}: " + ", ".join(f"{rule} {count}" for rule, count in sorted(rules.items())))


def _say_group(group: Group, proposed: Proposal | None) -> None:
    of = f"{group.rule}, field {group.field}" if group.field else group.rule
    say(plain(f"{of}: {group.letters} by {group.stage}"))
    say(plain(f"  such as {group.example.id}: {group.example.reason}"))
    if proposed is not None:
        gaps = f"; {proposed.gaps} without a value then" if proposed.gaps else ""
        tried = "" if proposed.accepts is None else f" ({proposed.accepts} of {proposed.tried} that were tried{gaps})"
        say(f"  accepted by{tried}:")
        for change in proposed.changes:
            say(plain(f"    {change}"))


def _outcomes(answers: list[messages.ReplayDeadLettersResponse], *, dry_run: bool) -> list[RenderableType]:
    rows = [
        [answer.letter.id, plain(answer.letter.rule), coloured(outcome_word(answer.outcome)), plain(answer.reason)]
        for answer in answers
    ]
    counts = Counter(outcome_word(answer.outcome) for answer in answers)
    told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    return [
        table(["=id", "=rule", "=outcome", "reason"], rows),
        f"{told}; nothing was sent" if dry_run else told,
    ]


def _value_name(letter: messages.DeadLetter) -> str:
    if letter.withheld:
        return "told"
    return "value" if letter.stage == "ingestion" else "row"


def _say_letter(letter: messages.DeadLetter) -> None:
    view = letter_view(letter)
    lines = {
        "letter": letter.id,
        "stage": letter.stage,
        "rule": letter.rule,
        "field": letter.field,
        "reason": letter.reason,
        "origin": f"{letter.topic}:{letter.partition}:{letter.offset}{f', record {letter.index}' * bool(letter.index)}",
        "rejected": view["reject_time"],
        "replays": str(letter.replays),
        "trace": letter.trace_id,
        "key": bytes_text(letter.key),
        # What a later stage holds is the row; the producer's bytes come beside it.
        _value_name(letter): bytes_text(letter.value),
        "sent": bytes_text(letter.original),
    }
    for name, text in lines.items():
        if text:
            say(f"{name:<9} {text}")
