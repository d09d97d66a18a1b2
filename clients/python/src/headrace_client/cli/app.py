"""The command line as a whole."""

from __future__ import annotations

from headrace_client.cli.commands import COMMANDS, application

app = application(COMMANDS)
