"""`delete`: the end of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from headrace.registry.v1 import registry_service_pb2 as messages

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import JsonOption, print_json, say
from headrace_client.registry import RegistryClient

app = typer.Typer(help="End what is not wanted any more.", no_args_is_help=True)


@app.callback()
def delete() -> None:
    """End what is not wanted any more."""


@app.command("pipeline")
def pipeline(
    name: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")],
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete its record topics, with the dead letters, and consumer groups too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a pipeline: its loops stop and its model is served no more. Applied again, it begins anew."""
    with RegistryClient(find_addresses().registry) as registry:
        if not yes:
            topics = " with its record topics and dead letters" if purge else ""
            typer.confirm(f"Delete pipeline '{name}'{topics}, and stop serving its model?", abort=True, err=True)
        answer = registry.delete_pipeline(name, purge=purge)
    if as_json:
        print_json(_view(name, answer))
        return
    for line in _told(name, answer):
        say(line)


@app.command("leftovers")
def leftovers(
    name: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the deleted pipeline.")],
    as_json: JsonOption = False,
) -> None:
    """Delete the record topics and consumer groups that a deleted pipeline has left; one applied since stays."""
    with RegistryClient(find_addresses().registry) as registry:
        answer = registry.delete_leftovers(name)
    topics, groups = list(answer.topics), list(answer.groups)
    if as_json:
        print_json({"pipeline": name, "purged": {"topics": topics, "groups": groups}, "in_force": answer.in_force})
        return
    say(f"deleted: {_named(topics, groups)}")
    if answer.in_force:
        say(f"stays: pipeline '{name}' as it is in force, with its topics and groups")


def _named(topics: Sequence[str], groups: Sequence[str]) -> str:
    return f"topics {', '.join(topics) or 'none'}; groups {', '.join(groups) or 'none'}"


def _view(name: str, answer: messages.DeletePipelineResponse) -> dict[str, object]:
    topics, groups = list(answer.topics), list(answer.groups)
    return {
        "pipeline": name,
        "deleted": answer.HasField("deleted"),
        "withdrawn": [{"model": each.model, "alias": each.alias, "epoch": each.epoch} for each in answer.withdrawn],
        "purged": {"topics": topics, "groups": groups} if answer.purged else None,
        "stays": {
            "topics": [] if answer.purged else topics,
            "groups": [] if answer.purged else groups,
            "datasets": answer.datasets,
            "versions": answer.versions,
        },
    }


def _told(name: str, answer: messages.DeletePipelineResponse) -> Sequence[str]:
    lines = [f"pipeline '{name}' is deleted" if answer.HasField("deleted") else f"pipeline '{name}' was deleted before"]
    lines += [f"model '{each.model}' is no longer served as {each.alias}" for each in answer.withdrawn]
    named = _named(answer.topics, answer.groups)
    if answer.purged:
        lines.append(f"deleted: {named}")
    else:
        lines.append(f"stays until `headrace delete leftovers {name}`: {named}")
    lines.append(
        f"stays: the producers' topic, {answer.datasets} datasets and {answer.versions} versions in the object store, "
        "and all that the registry recorded (`get --as-of`, `lineage`, `where`)"
    )
    return lines
