"""A short run of `make days`: one segment a day, and datasets of the last days by event time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

DAYS = Path(__file__).parents[1] / "days" / "days.py"


@pytest.mark.timeout(600)
def test_a_window_of_days_is_learned_from(tmp_path: Path) -> None:
    options = {"--days": 4, "--rows": 4_000, "--window": 3, "--home": tmp_path}
    command = [sys.executable, str(DAYS), *(str(part) for option in options.items() for part in option)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^days days=4 rows=4000 .* wrong=0$", done.stdout, re.MULTILINE)
    assert re.search(r"^disk: 4 segments of 4000 rows", done.stdout, re.MULTILINE)
    assert "trainer's child" in done.stdout
