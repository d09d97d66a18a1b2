"""Errors that cross a service's edge, and those that end a loop or a process.

HeadraceError
├── InvalidInput          the caller sent something that can never work
├── NotFound              the thing named does not exist
├── FailedPrecondition    the thing exists, but not in the state that this needs
├── NotSupported          the caller asked for something that is not done here
├── TooLarge              over a limit
│   └── Overloaded        more waits already than can be done in time: come again later
├── Unavailable           may work later: something is down, loading or stopping
│   └── Stalled           a consumer stands still: the process must begin anew (`kafka.consumers`)
├── DeadlineExceeded      the caller's time was over before the work began
├── Unprocessable         an event or record that can never be handled
│   └── WorkRefused       a run that can never succeed as it was asked for (`runs.child`)
├── Corrupt               bytes that do not match their digest
├── SettingsInvalid       settings that stop the start
├── Fenced                another process took over the transactional id (`kafka.producers`)
├── MembershipLost        the group moved on during a transaction: read again (`kafka.producers`)
└── FaultEverywhere       so many records in a row die that the fault is the service's own (`poison.caution`)

The core raises those that stand here with the data in the message; `rpc` turns them into status codes. The others stand
beside what raises them.
"""

from __future__ import annotations

from collections.abc import Sequence


class HeadraceError(Exception):
    """Anything that Headrace itself reports. The message is for the person who can mend it."""


class InvalidInput(HeadraceError):
    """The caller sent something that can never work."""


class NotFound(HeadraceError):
    """The thing named does not exist."""


class FailedPrecondition(HeadraceError):
    """The thing exists, but not in the state that the call needs."""


class NotSupported(HeadraceError):
    """The caller asked for something that is known, but not done here."""


class TooLarge(HeadraceError):
    """A message or a number is over its limit."""


class Overloaded(TooLarge):
    """More calls wait than can be answered in time; the caller should come again after `wait_s` seconds."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Unavailable(HeadraceError):
    """It may work later: something is down, loading or stopping."""


class DeadlineExceeded(HeadraceError):
    """The caller's deadline passed before the work began."""


class Unprocessable(HeadraceError):
    """An event or a record that can never be handled, however often it is tried."""


class Corrupt(HeadraceError):
    """Bytes that do not match the digest or the size that they were announced with."""


class SettingsInvalid(HeadraceError):
    """Settings that stop the start, all of them at once.

    `problems` holds one line for each bad variable.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("invalid settings:\n" + "\n".join(f"  {problem}" for problem in self.problems))
