"""Runs the supervisor, in the foreground of a session of its own.

With `--attached` it ends with its launcher, however that ends: the launcher holds the other end of standard input, and
the system closes that even after a kill. Nothing is ever written to it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from supervisor import supervisord


def main() -> None:
    """Run supervisord with the configuration file named first on the command line."""
    configuration, *options = sys.argv[1:]
    if "--attached" in options:
        threading.Thread(target=_end_with_launcher, daemon=True).start()
    supervisord.main(["--nodaemon", "--configuration", configuration])


def _end_with_launcher() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
