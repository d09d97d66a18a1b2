"""Moments on the command line: an ISO time, or how long ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import typer

from headrace_client.cli.durations import seconds


def moment(text: str, option: str) -> datetime:
    """Return an aware moment; a time without a zone is in the reader's own. Raises BadParameter, naming `option`."""
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds(text))
    except (typer.BadParameter, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"expected an ISO time such as 2026-05-17T14:30 or how long ago, such as 5m, got '{text}'",
            param_hint=option,
        ) from None
