"""The console script `headrace`. It imports nothing before it can end quietly when the user interrupts it."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command."""
    try:
        from headrace_client.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
