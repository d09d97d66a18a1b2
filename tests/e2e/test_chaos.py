"""A short run of `make chaos`: whatever befalls instances, topics and the disk, no record is lost or doubled."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

CHAOS = Path(__file__).parents[1] / "chaos"
SEED = 1
MINUTES = 1.0
"""One round of the schedule: every kind of event at least once, a kill of the broker among them."""
RECORDS = 12_000
"""Few for a minute: what matters is what happens to them meanwhile, and other tests want the machine as well."""
BACKLOG_GB = 0.04


@pytest.mark.timeout(1_200)
def test_nothing_is_lost_or_doubled_whatever_is_killed(tmp_path: Path) -> None:
    options: dict[str, object] = {"--seed": SEED, "--minutes": MINUTES, "--records": RECORDS}
    options |= {"--backlog-gb": BACKLOG_GB, "--home": tmp_path}
    command = [sys.executable, str(CHAOS), *(str(part) for option in options.items() for part in option)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_100, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = re.findall(r"^chaos .*$", done.stdout, re.MULTILINE)
    told = dict(pair.split("=") for pair in line.split()[1:])
    assert int(told["clean"]) + int(told["dead"]) == int(told["records"])
    assert int(told["dead"]) > 0
    assert int(told["kills"]) >= 3
    assert int(told["pauses"]) >= 2
    assert int(told["added"]) + int(told["removed"]) >= 2
    assert all(int(told[kind]) >= 1 for kind in ("poisoned", "grown", "made_anew", "freezes", "full_disks"))
    assert int(told["refused_writes"]) >= 1, "nobody met the full disk"
    assert re.search(r"^backlog .* ingestion=\d+MiB.* preprocessing=\d+MiB", done.stdout, re.MULTILINE)


def test_the_same_seed_gives_the_same_schedule() -> None:
    script = "from schedule import plan; [print(event) for event in plan(5, 300, broker=True)]"
    runs = {
        subprocess.run([sys.executable, "-c", script], cwd=CHAOS, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    (schedule,) = runs
    assert {"kill", "pause", "restart", "add", "remove", "poison", "grow", "anew", "freeze", "fill"} <= set(
        schedule.split()
    )
    assert schedule.count("kill broker") == 1
