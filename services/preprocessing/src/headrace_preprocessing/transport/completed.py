"""What a cut comes to."""

from __future__ import annotations

from typing import NamedTuple

from headrace_data.history import History
from headrace_data.late_labels import Joined
from headrace_data.manifest import Manifest
from headrace_data.windows import NO_REMARKS, Remarks


class Completed(NamedTuple):
    """What a cut comes to."""

    history: History
    """The history with the new segment; without one where no row has its label yet."""
    manifest: Manifest | None
    """The dataset of the window; None when there is none."""
    reason: str = ""
    """Why there is none; empty otherwise."""
    remarks: Remarks = NO_REMARKS
    joined: Joined | None = None
    """What waits for labels that come later; None where rows have theirs."""
