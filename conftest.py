"""How the tests are spread when several processes run them: what shares a platform stays together and goes first."""

from __future__ import annotations

import pytest

LONGEST_FIRST = ("tests/e2e", "tests/contract", "tests/chart")
"""Folders whose tests share a platform, a broker or a build, by how long they take."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group tests by such a folder, and all others by their file; one process alone takes them as they come."""
    if not hasattr(config, "workerinput"):
        return
    rank = {folder: place for place, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(_group(item), len(rank)))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    path = item.path.relative_to(item.config.rootpath).as_posix()
    return next((folder for folder in LONGEST_FIRST if path.startswith(f"{folder}/")), path)
