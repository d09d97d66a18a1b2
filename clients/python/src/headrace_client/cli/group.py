"""The command group: no error leaves it as a traceback, and `--debug` may stand anywhere on the command line."""

from __future__ import annotations

import errno
import traceback
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort, Exit, TyperException

from headrace_client.cli.output import error_line
from headrace_client.errors import HeadraceClientError, SettingInvalid

FAILED = 1
WRONG_USAGE = 2
TROUBLED = 3
"""Everything runs, and a part of a pipeline does not work."""


class HeadraceGroup(TyperGroup):
    """A typer group that turns errors into one line on standard error and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line with `--debug` moved to its front."""
        if "--debug" in args:
            args = ["--debug", *(argument for argument in args if argument != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit 1 on failure and 2 on wrong usage."""
        try:
            return super().invoke(ctx)
        except (Exit, Abort, TyperException, EOFError):
            raise
        except HeadraceClientError as error:
            _end(ctx, str(error), WRONG_USAGE if isinstance(error, SettingInvalid) else FAILED)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of a pipe has gone: typer ends quietly
            _end(ctx, f"unexpected {type(error).__name__}: {error} (`--debug` shows where)", FAILED)


def _end(ctx: Any, message: str, code: int) -> NoReturn:
    if ctx.params.get("debug"):
        typer.echo(traceback.format_exc(), err=True)
    error_line(message)
    raise Exit(code)
