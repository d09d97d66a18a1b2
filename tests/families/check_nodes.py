"""Training over two machines: two network namespaces with a cable between them, one killed and back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from headrace_runtime.telemetry.hold import CHILD_VARIABLE
from headrace_trainer.child import alone

sys.path.insert(0, str(Path(__file__).parent))
from groups import (
    NEAR,
    Lane,
    Quiet,
    declared,
    distance,
    lane_in,
    ranks,
    two,
    until,
)

pytestmark = pytest.mark.timeout(600)

HERE, THERE = "10.177.0.1", "10.177.0.2"
PORT = 29_517
IP = shutil.which("ip") or ""


def _ip(*words: str) -> None:
    subprocess.run([IP, *words], check=True, capture_output=True, text=True)


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    return lane_in(tmp_path)


@pytest.fixture
def machines() -> Iterator[tuple[str, str]]:
    """Names of two namespaces; skips where none can be made."""
    if not IP:
        pytest.skip("there is no `ip` to make network namespaces by")
    names = f"headrace-{os.getpid()}-0", f"headrace-{os.getpid()}-1"
    made: list[str] = []
    try:
        try:
            for name in names:
                _ip("netns", "add", name)
                made.append(name)
            cables = "hr-cable-0", "hr-cable-1"
            _ip("link", "add", cables[0], "netns", names[0], "type", "veth", "peer", cables[1], "netns", names[1])
            for name, cable, address in zip(names, cables, (HERE, THERE), strict=True):
                _ip("-n", name, "address", "add", f"{address}/24", "dev", cable)
                _ip("-n", name, "link", "set", cable, "up")
                _ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not permitted here: {error.stderr.strip()}")
        yield names
    finally:
        for name in made:
            _ip("netns", "delete", name)


@contextmanager
def on(machine: str, node: int, lane: Lane, *words: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of the trainer on a machine."""
    told = {
        "HEADRACE_NODES": "2",
        "HEADRACE_NODE": str(node),
        "HEADRACE_MEETING": f"{HERE}:{PORT}",
        "HEADRACE_MEETING_SECRET": "what both of them know",
        "HEADRACE_STORE_URL": lane.store.url,
    }
    command = [IP, "netns", "exec", machine, sys.executable, "-m", *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **told, **environment}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_machine_that_is_killed_and_comes_back(machines: tuple[str, str], lane: Lane, strategy: str) -> None:
    here, there = machines
    (holds := lane.folder / "holds").mkdir()
    (holds / "step-2").touch()
    child, node = "headrace_trainer.child", "headrace_trainer.node"
    first, second = (lane.assignment(two(strategy), "spread", attempt) for attempt in (1, 2))
    with on(here, 0, lane, child, first["file"], **{CHILD_VARIABLE: str(holds)}) as leading:
        with on(there, 1, lane, node) as lending:
            until("the process that leads is held", (held := holds / "step-2.held").exists)
            (away,) = ranks(psutil.Process(lending.pid))
            os.kill(lending.pid, signal.SIGKILL)
            until("its process ends", lambda: not away.is_running())
        held.unlink()
        assert leading.stdout is not None
        assert "error" in json.loads(leading.stdout.readlines()[-1])
        assert leading.wait() == 1
    with on(here, 0, lane, child, second["file"]) as leading, on(there, 1, lane, node) as lending:
        assert leading.stdout is not None
        steps = [json.loads(line)["step"] for line in leading.stdout]
        assert leading.wait() == 0
        until("nobody is left", lambda: not ranks(psutil.Process(lending.pid)))
    assert steps == [3, 4]
    expected = alone(lane.assignment(declared("{device: cpu}"), "alone"), Quiet())
    apart = distance(lane.weights(expected), lane.weights(lane.result("spread")))
    print(f"{strategy} over two machines: {apart:.1e} from one process")
    assert apart < NEAR[strategy]
