"""Which command is where. One is imported when it is called: `headrace get` need not wait for what others import."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from headrace_client.cli.group import HeadraceGroup

PLATFORM, PIPELINES, MODELS = "The embedded platform", "Pipelines", "Catalogue and predictions"
COMMANDS = {
    "up": (PLATFORM, "platform", "up"),
    "down": (PLATFORM, "platform", "down"),
    "status": (PLATFORM, "status", "status"),
    "logs": (PLATFORM, "platform", "logs"),
    "topic": (PIPELINES, "topic", "app"),
    "init": (PIPELINES, "init", "init"),
    "advise": (PIPELINES, "advise", "advise"),
    "validate": (PIPELINES, "spec", "validate"),
    "apply": (PIPELINES, "spec", "apply"),
    "import": (PIPELINES, "importing", "import_"),
    "freeze": (PIPELINES, "freeze", "freeze"),
    "push": (PIPELINES, "push", "push"),
    "backfill": (PIPELINES, "backfill", "backfill"),
    "rebuild": (PIPELINES, "rebuild", "rebuild"),
    "wait": (PIPELINES, "wait", "wait"),
    "dead": (PIPELINES, "dead", "app"),
    "hold": (PIPELINES, "hold", "app"),
    "personal": (PIPELINES, "personal", "app"),
    "forget": (PIPELINES, "forget", "forget"),
    "delete": (PIPELINES, "delete", "app"),
    "gc": (PIPELINES, "gc", "gc"),
    "get": (MODELS, "catalogue", "get"),
    "rollback": (MODELS, "rollback", "rollback"),
    "quality": (MODELS, "quality", "quality"),
    "canary": (MODELS, "canary", "canary"),
    "rollout": (MODELS, "rollout", "rollout"),
    "recalibrate": (MODELS, "recalibrate", "recalibrate"),
    "lineage": (MODELS, "lineage", "lineage"),
    "watch": (MODELS, "watch", "watch"),
    "where": (MODELS, "where", "where"),
    "prove": (MODELS, "prove", "prove"),
    "verify": (MODELS, "verify", "verify"),
    "predict": (MODELS, "predict", "predict"),
    "chat": (MODELS, "chat", "chat"),
    "explain": (MODELS, "explain", "explain"),
    "pull": (MODELS, "pull", "pull"),
    "report": (MODELS, "report", "report"),
    "trace": (MODELS, "trace", "trace"),
}
"""Panel of the help, module of this package and its function, or its application of several commands; by name."""


def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Kafka streams in, served models out."""


def called(arguments: Iterable[str]) -> Iterable[str]:
    """Return the names of the commands that a command line needs: all of them where it names none first."""
    first = next((argument for argument in arguments if argument != "--debug"), "")
    return (first,) if first in COMMANDS else COMMANDS


def application(names: Iterable[str]) -> typer.Typer:
    """Return the command line with these commands."""
    app = typer.Typer(
        name="headrace",
        cls=HeadraceGroup,
        help="Kafka streams in, served models out.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(options)
    for name in names:
        panel, module, function = COMMANDS[name]
        command = getattr(import_module(f"headrace_client.cli.{module}"), function)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)
    return app
