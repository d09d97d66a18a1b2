"""Platforms for the tests, started through the launcher that `headrace up` uses, on free ports in temporary folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from headrace_local.launcher import Platform


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Kafka with the control topics and Valkey, without services: see `bootstrap_servers` and `redis_url`."""
    from headrace_local.launcher import Platform

    with Platform.on_free_ports(tmp_path_factory.mktemp("broker"), services=()) as started:
        yield started


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The whole platform: Kafka, Valkey and all six services."""
    from headrace_local.launcher import Platform

    with Platform.on_free_ports(tmp_path_factory.mktemp("platform")) as started:
        yield started


@pytest.fixture
def platform_home(tmp_path: Path) -> Path:
    """A state folder for a platform that one test starts itself."""
    return tmp_path / "home"
