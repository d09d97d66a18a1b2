"""Errors that only inference raises; the others are those of headrace_runtime.errors.

HeadraceError
└── TooLarge
    └── Overloaded        more calls wait than may wait
"""

from __future__ import annotations

from headrace_runtime.errors import TooLarge


class Overloaded(TooLarge):
    """More calls wait for a model than may wait; the caller should come again later."""
