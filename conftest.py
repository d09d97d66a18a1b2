"""How the tests are spread when several processes run them: what shares a platform stays together."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/e2e", "tests/contract", "tests/chart")
"""Folders whose tests share a platform, a broker or a build."""


class Spread(LoadScopeScheduling):
    """Gives a process such a folder as a whole, and all other tests file by file; the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if path.startswith(f"{folder}/")), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Spread:
    """Spread the tests in this way, whatever --dist says."""
    return Spread(config, log)
