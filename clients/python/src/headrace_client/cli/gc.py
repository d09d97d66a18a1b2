"""`gc`: objects that nothing needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import typer
from headrace.registry.v1 import registry_service_pb2 as messages

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import JsonOption, print_json, say
from headrace_client.cli.tables import size_text
from headrace_client.registry import RegistryClient

_FATES: Final = {
    messages.OBJECT_FATE_REMOVED: "removed",
    messages.OBJECT_FATE_MARKED: "marked",
    messages.OBJECT_FATE_YOUNG: "young",
    messages.OBJECT_FATE_KEPT: "kept",
}
_TOLD: Final = {
    "removed": "removed, needed by nothing",
    "marked": "marked, removed by a collection an hour from now or later",
    "young": "stay, needed by nothing yet and written a short while ago",
    "kept": "stay, needed by",
}


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove objects from the store that nothing needs: marked by one call, removed by a later one."""
    with RegistryClient(find_addresses().registry) as registry:
        answer = registry.collect_garbage(dry_run=dry_run)
    if as_json:
        print_json(_view(answer, dry_run=dry_run))
        return
    for line in _lines(answer, dry_run=dry_run):
        say(line)


def _view(answer: messages.CollectGarbageResponse, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "objects": [
            {"fate": _FATES[each.fate], "kind": each.kind, "objects": each.objects, "size_bytes": each.size_bytes}
            for each in answer.counts
        ],
        "retired": [
            {
                "pipeline": each.pipeline,
                "model": each.model,
                "ordinal": each.ordinal,
                "version_id": each.version_id,
            }
            for each in answer.retired
        ],
    }


def _lines(answer: messages.CollectGarbageResponse, *, dry_run: bool) -> Iterator[str]:
    if dry_run:
        yield "nothing was changed; a collection now would say:"
    for version in answer.retired:
        retired = f"version {version.ordinal} of model {version.model} is retired"
        yield f"{retired}: pipeline '{version.pipeline}' retains others"
    for fate, word in _FATES.items():
        for each in answer.counts:
            if each.fate == fate:
                join = " " if word == "kept" else ": "
                yield f"{each.objects} objects, {size_text(each.size_bytes)}, {_TOLD[word]}{join}{each.kind}"
    if not answer.counts:
        yield "there are no objects"
