"""`verify`: whether the registry's log is what was recorded."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import JsonOption, error_line, print_json, say
from headrace_client.log_topic import lines_in_kafka
from headrace_client.proofs import Head, Walk, head_of, is_signed_by, read_head, walk
from headrace_client.registry import RegistryClient


def verify(
    key: Annotated[
        Path | None, typer.Option("--key", metavar="PUBLIC", help="The operator's Ed25519 public key (PEM).")
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option("--head", metavar="FILE", help="A head that was saved: nothing before it changed since."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="File to save the head of now in.")
    ] = None,
    kafka: Annotated[
        bool,
        typer.Option("--kafka", help="Read the log from Kafka, where no registry starts; --save is for a registry."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Walk along the registry's log and tell whether each entry follows from those before it."""
    if kafka and save:
        raise typer.BadParameter("expected a registry, which signs heads: leave out --kafka", param_hint="--save")
    saved = read_head(before) if before else None
    sizes = [saved.size] if saved else []
    if kafka:
        head, found = None, walk(lines_in_kafka("verify --kafka"), sizes)
    else:
        with RegistryClient(find_addresses().registry) as registry:
            head = head_of(registry.log_head())
            found = walk(registry.log_lines(), [head.size, *sizes])
    problems = _problems(found, head, saved, key)
    if as_json:
        print_json(_told(found, head, problems))
    else:
        say(_summary(found, head))
        for problem in problems:
            error_line(problem)
    if problems:
        raise typer.Exit(1)
    if save and head:
        save.write_text(head.to_json())


def _problems(found: Walk, head: Head | None, saved: Head | None, key: Path | None) -> list[str]:
    problems = []
    if found.first_break:
        offset, expected, got = found.first_break
        problems.append(f"the chain is broken at offset {offset}: expected {expected}, got {got}")
        problems.append(f"the last entry that tells of it is at offset {found.last_broken}")
    for what, each in {"head of the registry": head, "saved head": saved}.items():
        if each is None:
            continue
        if (root := found.roots.get(each.size)) != each.root:
            instead = root or f"a log of {found.entries} entries"
            problems.append(f"the {what}: expected root {each.root} after {each.size} entries, got {instead}")
        if key and not is_signed_by(each, key):
            problems.append(f"the {what} is not signed with the key of {key}")
    return problems


def _summary(found: Walk, head: Head | None) -> str:
    begins = f"chained since offset {found.begins}" if found.begins is not None else "not chained yet"
    gaps = f", {found.unchained} entries after that of an older registry" if found.unchained else ""
    if head is None:
        return f"{found.entries} entries, {begins}{gaps}; root {found.root}"
    signed = f"signed with key {head.key[:16]}" if head.key else "not signed"
    return f"{found.entries} entries, {begins}{gaps}; head {head.root} at {head.time}, {signed}"


def _told(found: Walk, head: Head | None, problems: list[str]) -> dict[str, object]:
    return {
        "entries": found.entries,
        "begins": found.begins,
        "unchained": found.unchained,
        "root": found.root,
        "first_break": found.first_break.offset if found.first_break else None,
        "last_broken": found.last_broken if found.last_broken >= 0 else None,
        "head": asdict(head) if head else None,
        "problems": problems,
    }
