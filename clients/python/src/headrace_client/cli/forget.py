"""`forget`: the rows of a key leave all that a pipeline keeps."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from headrace_client.addresses import find_addresses
from headrace_client.cli.durations import seconds
from headrace_client.cli.output import JsonOption, note, plain, print_json, print_parts, table
from headrace_client.cli.tables import size_text
from headrace_client.forgetting import key_digest, proof, wait_forgotten
from headrace_client.registry import RegistryClient
from headrace_client.stores import opened_store
from headrace_client.views import View, short_id

KeyArgument = Annotated[
    str | None,
    typer.Argument(metavar="KEY", help="As rows have it. Left out: a line of standard input, which no history keeps."),
]
KeysOption = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FOLDER",
        envvar="HEADRACE_PERSONAL_KEYS_DIR",
        help="Folder with the key's file of personal fields: KEY is as producers send it then.",
    ),
]


def forget(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")],
    key: KeyArgument = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Make a dataset without these rows at once, and train on it.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the proof there, as JSON.")
    ] = None,
    keys: KeysOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait.")] = "30m",
    as_json: JsonOption = False,
) -> None:
    """Take the rows of a key out of all that a pipeline keeps, for good, and let none of them in again."""
    timeout_s, text = seconds(timeout), _key(key)
    with RegistryClient(find_addresses().registry) as registry:
        applied = registry.pipeline(pipeline)
        if not yes:
            typer.confirm(
                f"Take the rows of one key out of every segment and dataset of pipeline '{pipeline}', for good?",
                abort=True,
                err=True,
            )
        with opened_store("forget") as store:
            digest = key_digest(applied, text, store, keys)
        request_id = registry.forget_key(pipeline, digest, retrain=retrain)
        note(f"pipeline '{pipeline}' was asked to forget a key (request {request_id})")
        done = wait_forgotten(registry, pipeline, request_id, timeout_s)
        told = proof(done, registry.versions())
    if output is not None:
        output.write_text(json.dumps(told, indent=2) + "\n")
    if as_json:
        print_json(told)
    else:
        print_parts(_parts(told))


def forgotten(found: list[View]) -> list[RenderableType]:
    """Show what was done about keys."""
    rows = [
        [
            plain(each["pipeline"]),
            each["key"]["digest"][:8],
            str(each["time"])[:19].replace("T", " "),
            str(each["rows"]),
            str(len(each["datasets"])),
            ", ".join(str(version["ordinal"]) for version in each["versions"]) or "none",
        ]
        for each in found
    ]
    return [table(["pipeline", "=key", "=time", ">rows", ">datasets", "versions"], rows)]


def _key(given: str | None) -> str:
    if given is not None:
        return given
    if sys.stdin.isatty():
        raise typer.BadParameter("give a key, or send one to standard input", param_hint="KEY")
    line = sys.stdin.readline().removesuffix("\n")
    if not line:
        raise typer.BadParameter("expected a key in the first line of standard input, got none", param_hint="KEY")
    return line


def _parts(told: dict[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = [
        f"{told['rows']} rows of {told['segment_count']} segments are erased; {told['erased_count']} objects are gone "
        f"from the store, of {sum(each['objects'] for each in told['searched'])} that were looked at "
        f"({size_text(sum(each['size_bytes'] for each in told['searched']))})"
    ]
    if told["datasets"]:
        parts.append(table(["=dataset", ">train", ">validation", ">test"], map(_dataset, told["datasets"])))
    if told["versions"]:
        found = [
            [plain(each["model"]), str(each["ordinal"]), short_id(each["version_id"]), each["state"]]
            for each in told["versions"]
        ]
        parts.append(table(["model that saw the key", ">version", "=id", "=state"], found))
        again = "is asked for" if told["retrain"] else "comes with the next dataset, or --retrain"
        parts.append(f"What these learned stays with them until they are retired; a version without the key {again}.")
    until = [[plain(each["topic"]), plain(each["holds"]), _until(each)] for each in told["topics"]]
    parts.append(table(["topic", "still has", "until"], until))
    parts += [plain(reason) for reason in told["left"]]
    if told["whole"]:
        parts.append(f"The proof has the beginnings of long lists: {plain(told['whole']['uri'])} has them whole.")
    return parts


def _dataset(each: dict[str, Any]) -> list[str]:
    return [short_id(each["dataset_id"]), *(str(each[split]) for split in ("train", "validation", "test"))]


def _until(topic: dict[str, Any]) -> str:
    return plain(topic["remark"] or str(topic["until"])[:16].replace("T", " "))
