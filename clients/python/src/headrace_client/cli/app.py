"""The command line as a whole: which command is where."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace_client.cli import (
    advise,
    backfill,
    catalogue,
    chat,
    dead,
    delete,
    explain,
    forget,
    freeze,
    gc,
    importing,
    init,
    lineage,
    personal,
    platform,
    predict,
    pull,
    quality,
    rebuild,
    recalibrate,
    report,
    rollback,
    spec,
    status,
    topic,
    trace,
    wait,
    where,
)
from headrace_client.cli.group import HeadraceGroup

app = typer.Typer(
    name="headrace",
    cls=HeadraceGroup,
    help="Kafka streams in, served models out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Kafka streams in, served models out."""


PLATFORM, PIPELINES, MODELS = "The embedded platform", "Pipelines", "Catalogue and predictions"

app.command("up", rich_help_panel=PLATFORM)(platform.up)
app.command("down", rich_help_panel=PLATFORM)(platform.down)
app.command("status", rich_help_panel=PLATFORM)(status.status)
app.command("logs", rich_help_panel=PLATFORM)(platform.logs)
app.add_typer(topic.app, name="topic", rich_help_panel=PIPELINES)
app.command("init", rich_help_panel=PIPELINES)(init.init)
app.command("advise", rich_help_panel=PIPELINES)(advise.advise)
app.command("validate", rich_help_panel=PIPELINES)(spec.validate)
app.command("apply", rich_help_panel=PIPELINES)(spec.apply)
app.command("import", rich_help_panel=PIPELINES)(importing.import_)
app.command("freeze", rich_help_panel=PIPELINES)(freeze.freeze)
app.command("backfill", rich_help_panel=PIPELINES)(backfill.backfill)
app.command("rebuild", rich_help_panel=PIPELINES)(rebuild.rebuild)
app.command("wait", rich_help_panel=PIPELINES)(wait.wait)
app.add_typer(dead.app, name="dead", rich_help_panel=PIPELINES)
app.add_typer(personal.app, name="personal", rich_help_panel=PIPELINES)
app.command("forget", rich_help_panel=PIPELINES)(forget.forget)
app.add_typer(delete.app, name="delete", rich_help_panel=PIPELINES)
app.command("gc", rich_help_panel=PIPELINES)(gc.gc)
app.command("get", rich_help_panel=MODELS)(catalogue.get)
app.command("rollback", rich_help_panel=MODELS)(rollback.rollback)
app.command("quality", rich_help_panel=MODELS)(quality.quality)
app.command("recalibrate", rich_help_panel=MODELS)(recalibrate.recalibrate)
app.command("lineage", rich_help_panel=MODELS)(lineage.lineage)
app.command("where", rich_help_panel=MODELS)(where.where)
app.command("predict", rich_help_panel=MODELS)(predict.predict)
app.command("chat", rich_help_panel=MODELS)(chat.chat)
app.command("explain", rich_help_panel=MODELS)(explain.explain)
app.command("pull", rich_help_panel=MODELS)(pull.pull)
app.command("report", rich_help_panel=MODELS)(report.report)
app.command("trace", rich_help_panel=MODELS)(trace.trace)
