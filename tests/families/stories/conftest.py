"""A platform for each file of checks, whose trainer may import the examples' networks, and a user's commands."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from headrace_local.launcher import Platform

EXAMPLES = Path(__file__).parents[3] / "examples"
PACKAGES = ("mnist", "words", "leaves", "recommender")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(EXAMPLES))
        patch.setenv("HEADRACE_FACTORY_PACKAGES", ",".join(PACKAGES))
        with Platform.on_free_ports(tmp_path_factory.mktemp("platform")) as started:
            yield started


@pytest.fixture(scope="module")
def run(platform: Platform) -> Callable[..., str]:
    """Run a command as a user would, and return what it says; one that fails tells it on the other stream too."""

    def call(*command: str, fails: bool = False) -> str:
        own = {
            "KAFKA_BOOTSTRAP_SERVERS": platform.bootstrap_servers,
            "HEADRACE_INFERENCE_ADDRESS": platform.addresses["inference"],
            "COLUMNS": "120",
        }
        environment = os.environ | platform.environment | own
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr if fails else done.stdout

    return call
