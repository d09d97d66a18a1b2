"""Errors of the embedded platform.

HeadraceError
└── PlatformError        anything that keeps the embedded platform from starting, stopping or being found
    ├── PortBusy         an address is taken by another process
    ├── AlreadyRunning   a platform runs in this state folder already
    ├── NotRunning       no platform runs in this state folder
    ├── StartFailed      a process keeps dying or does not become ready; carries the end of its log
    └── Unsupported      no JRE, Valkey or jars for this machine, or they cannot be fetched
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headrace_runtime.errors import HeadraceError


class PlatformError(HeadraceError):
    """The embedded platform cannot do what was asked; the message says what to mend."""


class PortBusy(PlatformError):
    """One or more addresses are taken. `problems` holds one line for each: address, holder and setting."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class AlreadyRunning(PlatformError):
    """A platform runs in this state folder already."""

    def __init__(self, home: Path, pid: int) -> None:
        self.home = home
        self.pid = pid
        super().__init__(
            f"a platform already runs in {home} (supervisor pid {pid}): stop it with `headrace down`, "
            "or set HEADRACE_HOME to another folder"
        )


class NotRunning(PlatformError):
    """No platform runs in this state folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"no platform runs in {home}: start one with `headrace up`")


class StartFailed(PlatformError):
    """A process did not become ready. `process` is its name, `log_tail` the end of its log."""

    def __init__(self, process: str, reason: str, log: Path | None = None, log_tail: str = "") -> None:
        self.process = process
        self.log_tail = log_tail
        shown = f"; the end of {log}:\n{log_tail}" if log_tail else ""
        super().__init__(f"{process} {reason}{shown}")


class Unsupported(PlatformError):
    """Something that the platform is made of is not to be had on this machine."""
