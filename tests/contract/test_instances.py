"""Instances of a service that are added, killed and removed while a platform runs."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract


def test_instances_come_are_restarted_and_go(broker: Platform, platform_home: Path, until: Callable[..., None]) -> None:
    from headrace_local.errors import PlatformError
    from headrace_local.launcher import Platform
    from headrace_runtime.services import SERVICES

    ingestion = [SERVICES["ingestion"]]
    with Platform.on_free_ports(
        platform_home,
        services=ingestion,
        kafka_bootstrap_servers=broker.bootstrap_servers,
        redis_url=broker.redis_url,
    ) as platform:
        name = platform.add_instance("ingestion")
        assert name == "ingestion-1"
        added = platform.process(name)
        assert added.environment["HEADRACE_INSTANCE"] == "1"
        assert set(added.listens.values()).isdisjoint(platform.process("ingestion").listens.values())
        assert platform.log_path(name).is_file()

        killed = platform.signal(name, signal.SIGKILL)
        until(lambda: platform.pid(name) not in (0, killed))

        platform.stop_process("ingestion")
        assert platform.pid("ingestion") == 0
        platform.start_process("ingestion")
        until(lambda: platform.pid("ingestion"))

        with pytest.raises(PlatformError, match="was not added"):
            platform.remove_instance("ingestion")
        # Another process, such as a command line, finds the instance too.
        Platform.find(platform_home).remove_instance(name)
        assert [status.name for status in platform.status()] == ["ingestion"]
        with pytest.raises(PlatformError, match="no process is called"):
            platform.pid(name)
        with pytest.raises(PlatformError, match="expected one of ingestion"):
            platform.add_instance("trainer")
