"""The pipes between a parent and a child process that speak lines of JSON over standard input and output."""

from __future__ import annotations

import os
import sys
from typing import TextIO

STANDARD_INPUT = 0
_STANDARD_OUTPUT = 1
_STANDARD_ERROR = 2


def claim_standard_output() -> TextIO:
    """Return standard output for the lines of the protocol alone; what else is printed goes to standard error now.

    Libraries print to standard output, from native code too, and a stray line there would be taken for one of ours.
    """
    lines = os.fdopen(os.dup(_STANDARD_OUTPUT), "w", encoding="utf-8")
    sys.stdout.flush()
    os.dup2(_STANDARD_ERROR, _STANDARD_OUTPUT)
    return lines
