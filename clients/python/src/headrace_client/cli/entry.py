"""The console script `headrace`. It imports nothing before it can end quietly when the user interrupts it."""

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command."""
    # gRPC's own log lines, such as those of a server that stops, are none that a user can use.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from headrace_client.cli.commands import application, called

        application(called(sys.argv[1:]))()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
