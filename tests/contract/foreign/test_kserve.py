"""KServe's REST client, unmodified and in an environment of its own, calls inference as it calls KServe."""

from __future__ import annotations

import json
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.contract, pytest.mark.slow, pytest.mark.timeout(700)]

ROOT = Path(__file__).parents[3]
PROGRAM = ROOT / "tests" / "foreign" / "kserve_rest.py"


@pytest.fixture(scope="module")
def kserve_python() -> str:
    """The Python of the environment in which benchmarks run KServe; made at its first use."""
    location = spec_from_file_location("peers", ROOT / "benchmarks" / "peers" / "__init__.py")
    assert location is not None
    assert location.loader is not None
    peers = module_from_spec(location)
    location.loader.exec_module(peers)
    try:
        return str(peers.python("kserve"))
    except peers.Unavailable as reason:
        pytest.skip(str(reason))


def test_kserves_rest_client(server: Any, kserve_python: str) -> None:
    done = subprocess.run(
        [kserve_python, str(PROGRAM), server.rest_address], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == 3
    assert not any(results.values()), results
