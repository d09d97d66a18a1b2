"""`advise`: a topic or a pipeline in, settings for its train section out, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import typer

from headrace_client.addresses import find_addresses
from headrace_client.advising import Known, section
from headrace_client.advising import advise as advised
from headrace_client.cli.durations import seconds
from headrace_client.cli.output import JsonOption, note, plain, print_json, print_parts, table
from headrace_client.registry import RegistryClient
from headrace_client.views import pipeline_view
from headrace_client.yaml_texts import flow


class Family(StrEnum):
    """Kinds of models that there is advice for."""

    MLP = "mlp"
    CNN = "cnn"
    TREES = "trees"


class _Subject(NamedTuple):
    """What is looked at."""

    topic: str
    label: str | None
    rows: int | None
    """Rows of the newest dataset; None before the first, and of a topic."""
    task: str | None = None
    """What the document says; None where it says nothing, and of a topic."""


def advise(
    name: Annotated[
        str, typer.Argument(metavar="TOPIC|PIPELINE", help="A pipeline that is in force, or a producers' topic.")
    ],
    label: Annotated[
        str | None, typer.Option("--label", metavar="FIELD", help="Field to predict; a pipeline's own, or guessed.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="Rows of a dataset; those of the newest, or of the topic.")
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option("--latency-ms", min=0.001, help="What a row may take to be answered.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="Processor time that a run may take, such as 5m.")
    ] = None,
    family: Annotated[Family | None, typer.Option("--family", help="The kind of model, where it is chosen.")] = None,
    sample: Annotated[
        int, typer.Option("--sample", "-n", min=1, max=100_000, help="Newest records to look at.")
    ] = 1_000,
    as_json: JsonOption = False,
) -> None:
    """Advise settings for the train section: kind of model, size, batches, schedule and epochs, with their reasons."""
    wanted = {
        "latency_ms": latency_ms,
        "budget_s": seconds(budget, "--budget") if budget else None,
        "family": family.value if family else None,
    }
    known, field = _known(_subject(name), label, rows, sample, wanted)
    settings = advised(known)
    if as_json:
        told = [asdict(each) for each in settings]
        print_json({"known": asdict(known), "settings": told, "train": section(settings)})
        return
    note(f"{known.rows:,} rows, about {known.inputs} inputs, {known.task} of '{field}'")
    cells = [[plain(each.path), plain(flow(each.value)), plain(each.reason)] for each in settings]
    print_parts([table(["=setting", "=value", "reason"], cells)])
    typer.echo("\ntrain:")
    for key, value in section(settings).items():
        typer.echo(f"  {key}: {flow(value)}")


def _known(
    subject: _Subject, label: str | None, rows: int | None, sample: int, wanted: Mapping[str, Any]
) -> tuple[Known, str]:
    """Return what is known of the rows, and the label's name. Raise typer's BadParameter where no family fits them."""
    # Imported here: the other commands start faster without them.
    from headrace_data.tasks import TASKS

    from headrace_client.drafting import draft_pipeline
    from headrace_client.drafting.known import known_of
    from headrace_client.sampling import newest_records, records_of

    draft = draft_pipeline(subject.topic, newest_records(subject.topic, sample, "advise"), label or subject.label)
    count = rows or subject.rows or records_of(subject.topic, "advise")
    known = replace(known_of(draft.roles, count), **wanted)
    if (task := TASKS.get(subject.task or "")) is not None and task.answers_numbers:
        known = replace(known, task="regression", classes=0, imbalance=1.0)
        if "trees" in task.unfit_networks:
            known = replace(known, family=known.family or "mlp")
    if known.family == "cnn" and not known.image:
        raise typer.BadParameter("expected mlp or trees: no one feature of the rows is an image", param_hint="--family")
    return known, draft.roles.label.field.name


def _subject(name: str) -> _Subject:
    """Return what is known of a pipeline by that name, or the topic by it where there is none.

    Raises typer's BadParameter where there is no advice for what it reads or answers.
    """
    with RegistryClient(find_addresses().registry) as registry:
        found = registry.pipelines(name)
        if not found:
            return _Subject(name, None, None)
        view = pipeline_view(found[0])
        datasets = registry.datasets(name)
    none: dict[str, Any] = {}
    label = next((field for field in view["spec"]["stream"]["schema"] if field["role"] == "label"), none)
    train = view["spec"].get("train") or none
    kinds = {"encoder": "an encoder", "causal-lm": "a language model", "new-causal-lm": "a language model"}
    if kind := kinds.get((train.get("network") or none).get("kind", "")):
        raise typer.BadParameter(
            f"expected a pipeline of a table or an image, got '{name}': {kind}, which no other network stands for"
        )
    task = train.get("task")
    if task == "ranking" or label.get("shape"):
        what = "a ranking" if task == "ranking" else "lists"
        raise typer.BadParameter(f"expected a pipeline that answers classes or single numbers, got '{name}': {what}")
    frozen = datasets[-1].frozen.rows if datasets else None
    rows = frozen.train + frozen.validation + frozen.test if frozen else None
    return _Subject(view["topic"], label.get("name"), rows, task)
