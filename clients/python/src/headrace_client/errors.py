"""Every way in which the client can fail.

HeadraceClientError
├── SettingInvalid       a setting cannot be used: wrong usage
├── InputInvalid         something handed in cannot be used
│   ├── RowsInvalid      rows that do not fit the model's inputs, each problem with its row and field
│   └── TopicUnusable    a topic does not exist, or holds nothing (`sampling`)
├── Unreachable          nobody answers at an address
├── TimedOut             no answer, or no end, within the time given
├── Rejected             a server answered with an error
│   ├── NotFound         what was asked for does not exist
│   ├── InvalidRequest   the request itself is wrong
│   ├── NotPossibleNow   the request is right, but something must happen first
│   ├── NotReady         the server is up, but loading or starting: it may work in a moment
│   └── TooLarge         the request or its answer is over a limit
├── AnswerInvalid        a server answered with something that breaks the protocol
├── StoreFailed          the object store does not give what the registry names
├── PipelineFailed       a freeze or a run failed, or a version was refused
├── PlatformFailed       the embedded platform did not start, stop or show its state
├── LocalMissing         the embedded platform is not installed
└── ExtraMissing         a command needs packages that are not installed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HeadraceClientError(Exception):
    """Whatever the client raises. Its text is a sentence for a person."""


class SettingInvalid(HeadraceClientError):
    """A setting cannot be used; the text names it, what was expected and what came."""


class InputInvalid(HeadraceClientError):
    """Something handed in, such as a file, cannot be used."""


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with one row: its number from 1, the field (empty when it is the row itself) and why."""

    row: int
    field: str
    message: str

    def __str__(self) -> str:
        field = f", field '{self.field}'" if self.field else ""
        return f"row {self.row}{field}: {self.message}"


class RowsInvalid(InputInvalid):
    """Rows that do not fit the model's inputs. `problems` holds every one of them."""

    def __init__(self, problems: Sequence[RowProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class Unreachable(HeadraceClientError):
    """Nobody answers at an address."""

    def __init__(self, service: str, address: str, detail: str = "") -> None:
        super().__init__(f"cannot reach {service} at {address}: {_advice(detail)}")
        self.service = service
        self.address = address
        self.detail = detail


def _advice(detail: str) -> str:
    """Return what to look at, by what gRPC says of the connection."""
    if "handshake failed" in detail or "Verification Check failed" in detail:
        return (
            "TLS failed: is HEADRACE_TLS_CA_FILE the CA of its certificate, and does that hold the address or "
            f"HEADRACE_TLS_SERVER_NAME? {detail}"
        )
    if "failed to connect" in detail and "Socket closed" in detail:
        return (
            "it closes connections at once: does it speak TLS (set HEADRACE_TLS_CA_FILE), or want a certificate "
            "(HEADRACE_TLS_CERT_FILE, HEADRACE_TLS_KEY_FILE)?"
        )
    return "is the platform up? run `headrace up`"


class TimedOut(HeadraceClientError):
    """No answer, or no end, within the time given."""


class Rejected(HeadraceClientError):
    """A server answered with an error. `code` is the gRPC status code's name."""

    def __init__(self, message: str, code: str = "UNKNOWN") -> None:
        super().__init__(message)
        self.code = code


class NotFound(Rejected):
    """What was asked for does not exist."""

    def __init__(self, message: str, code: str = "NOT_FOUND") -> None:
        super().__init__(message, code)


class InvalidRequest(Rejected):
    """The request itself is wrong."""


class NotPossibleNow(Rejected):
    """The request is right, but something must happen first."""


class NotReady(Rejected):
    """The server is up, but loading or starting: it may work in a moment."""


class TooLarge(Rejected):
    """The request or its answer is over a limit."""


class AnswerInvalid(HeadraceClientError):
    """A server answered with something that breaks the protocol."""


class StoreFailed(HeadraceClientError):
    """The object store does not give what the registry names: it cannot be reached from here, or lost it."""


class PipelineFailed(HeadraceClientError):
    """A freeze or a run failed, or a version was refused. The text is the reason."""


class PlatformFailed(HeadraceClientError):
    """The embedded platform did not start, stop or show its state."""


class LocalMissing(HeadraceClientError):
    """The embedded platform is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "the embedded platform is not installed: run `make setup` in a checkout and use its `.venv/bin/headrace`, "
            "or set HEADRACE_REGISTRY_ADDRESS and HEADRACE_INFERENCE_ADDRESS to a platform that runs elsewhere"
        )


class ExtraMissing(HeadraceClientError):
    """A command needs packages that are not installed; the text says which extra brings them."""

    def __init__(self, command: str, extra: str) -> None:
        super().__init__(
            f"`headrace {command}` needs the extra {extra!r}: run `uv tool install './clients/python[kafka,report]'` "
            "in a checkout, or what clients/python/README.md says for pip"
        )
